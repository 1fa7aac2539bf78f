"""What every server of deephash shares: who may ask it, how much it reads, and how long it waits."""
