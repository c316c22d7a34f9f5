"""A store in a folder of an SSH server: ``connection`` keeps the line up, ``store`` keeps the objects."""

from donjon.stores.sftp.connection import SftpAddress, SftpConnection
from donjon.stores.sftp.store import SftpStore

__all__ = ["SftpAddress", "SftpConnection", "SftpStore"]
