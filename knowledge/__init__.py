"""What people bring along: files become text here, in a process that can do nothing else."""
