"What all tests share: no window, little noise, the same numbers every time"
import inspect, os, random
os.environ['MPLBACKEND'] = 'agg'

from pathlib import Path
import numpy as np, pytest, torch

torch.set_num_threads(1) # sums depend on the number of threads; and two processes with two threads on two cores crawl

def pytest_pycollect_makeitem(collector, name, obj):
    "`import *` brings fastcore's `test_eq` and its kin into a test module: they are no tests of ours"
    if inspect.isfunction(obj) and name.startswith('test') and obj.__module__!=collector.obj.__name__: return []

@pytest.fixture(autouse=True)
def seeded():
    "Every test starts from the same seed, whichever ran before it"
    random.seed(42); np.random.seed(42); torch.manual_seed(42)

@pytest.fixture(scope='session')
def root(): return Path(__file__).resolve().parents[1]

@pytest.fixture(scope='session')
def shared_data():
    "The folder of real data sets, where there is one"
    shared = os.environ.get('CYCLEGAN_FASTAI_SHARED')
    if not shared: pytest.skip('no real data: set CYCLEGAN_FASTAI_SHARED to the folder that holds data/')
    return Path(shared)/'data'
