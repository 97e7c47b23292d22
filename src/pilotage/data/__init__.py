"""Records: batches of episodes as flat columns, tasks and verdicts."""
