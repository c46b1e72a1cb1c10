"""The integrals behind exact risks."""
