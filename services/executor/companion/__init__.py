"""The sandbox as a process of its own, which alone holds the container engine's socket."""
