"Callbacks that look at training and change nothing"
