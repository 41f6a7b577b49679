"""The declared architecture: what may move, from where to where, by whom, why, until when."""
