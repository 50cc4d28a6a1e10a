"Everything a training notebook needs: fastai's vision names, then this package's"
from fastai.vision.all import *

from .photo import *
from .external import *
from .files import *
from .data import *
from .seasons import *
from .models import *
from .inference import *
from .losses import *
from .game import *
from .terms import *
from .training import *
from .gamelearner import *
from .features import *
from .metrics import *
from .monitor import *
from .samples import *
from .guard import *
from .truth import *
from .learner import *
from .evaluation import *
from .alarms import *
from .experiment import *
