"""What Alembic runs: the migrations, on the connection and in the transaction of whoever asked."""

from __future__ import annotations

from alembic import context

# SQLite changes tables within transactions as well, once its driver does not end them on its own.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
