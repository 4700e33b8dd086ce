"""What can be read of a damaged Data.fs."""
