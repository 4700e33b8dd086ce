"""Pure functions over snapshots and columns: targets, paths, comparison, what a pack keeps."""
