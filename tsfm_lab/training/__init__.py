"""Training: presets by scale, losses, optimiser and schedule, the Lightning modules and the trainer."""
