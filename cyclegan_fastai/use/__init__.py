"Translate images with a trained model, export it and serve it; needs no fastai"
