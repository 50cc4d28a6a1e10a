"Checks, writing to disk, photographs and devices; imports neither PyTorch nor fastai"
