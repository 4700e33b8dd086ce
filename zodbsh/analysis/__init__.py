"""Pure functions over snapshots and columns: targets, paths, comparison, reachability."""
