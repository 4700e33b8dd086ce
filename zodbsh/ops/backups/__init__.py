"""Backing up and restoring: folders of backups as repozo lays them out, with blobs and manifests."""
