"From image files to batches, and from batches to pictures"
