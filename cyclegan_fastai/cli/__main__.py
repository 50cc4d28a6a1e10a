"Makes `python -m cyclegan_fastai.cli` the command line, as torchrun needs it"
from .main import main

if __name__=='__main__': main()
