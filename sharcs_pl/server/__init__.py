"""Answers over HTTP: what is offered, bodies, batches, the process that holds the model, and the one that listens."""
