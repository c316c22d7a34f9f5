"""The migrations of the catalog, for Alembic."""
