"""`pawl up`: all of Pawl on this machine, as one command."""
