"Networks, and the losses that they are trained with"
