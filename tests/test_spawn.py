"Worker processes that are spawned, as on macOS and Windows, or come from a server, as from Python 3.14 on"
import pickle, subprocess, sys
from pathlib import Path
import pytest
from fastai.vision.all import *
from cyclegan_fastai.all import *
from cyclegan_fastai.game.fast import HalfPrecision, _Progress

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(8, 4, 32, 1, tmp_path_factory.mktemp('data')/'seasons')

def of_tensors():
    x = torch.rand(6, 3, 32, 32)*2-1
    return tensor_dls((x, x), (x, x), bs=2)

LOADERS = {'files': lambda d: UnpairedDataLoaders.from_folder(d, 32, bs=2, device='cpu'), 'memory': lambda d: UnpairedDataLoaders.from_folder(d, 32, bs=2, device='cpu').in_memory(),
           'folders': lambda d: UnpairedDataLoaders.from_folders(d/'trainA', d/'trainB', 32, device='cpu', method='crop', load=32, aug_tfms=[]),
           'block': lambda d: DataBlock(UnpairedBlock(size=32), get_items=get_image_files, splitter=RandomSplitter(seed=1)).dataloaders(d/'two', bs=2, num_workers=0),
           'tensors': lambda d: of_tensors()}

@pytest.mark.parametrize('kind', LOADERS)
def test_loaders_pickle(data, kind):
    if kind=='block':
        for o in 'AB': (data/f'two/{o}').mkdir(parents=True, exist_ok=True) or shutil.copytree(data/f'train{o}', data/f'two/{o}', dirs_exist_ok=True)
    dls = LOADERS[kind](data)
    for o in dls.loaders:
        again = pickle.loads(pickle.dumps(o))
        assert [x.shape for x in again.one_batch()]==[x.shape for x in o.one_batch()]

@pytest.mark.parametrize('fitted', [False, True])
def test_callbacks_pickle(data, tmp_path, fitted):
    dls = LOADERS['files'](data)
    cbs = [CriticAccuracy(), Alarms(n=4), StopOnNonFinite(), ShowSamples(n=2), ProgressiveResize(28, .5), KID(features='mobilenet'), CompileNets(), HalfPrecision(), _Progress(), KeepRun(tmp_path)]
    learn = cyclegan_learner(dls, n_blocks=1, nf=4, ema=.9, path=tmp_path, lambda_identity=SchedLin(5, 0), cbs=cbs[:6] if fitted else cbs)
    if fitted:
        with learn.no_bar(),learn.no_logging(): learn.fit(1)
    pickle.dumps(learn)

SCRIPT = '''
import multiprocessing as mp, sys, torch, warnings
if __name__=='__main__':
    mp.set_start_method(sys.argv[1])
    torch.set_num_threads(1)
    from cyclegan_fastai.all import *
    sums = []
    for workers in (0, 2):
        set_seed(1)
        dls = UnpairedDataLoaders.from_folder(sys.argv[2], 32, bs=2, num_workers=workers, device='cpu')
        learn = cyclegan_learner(dls, n_blocks=1, nf=4, path=sys.argv[3])
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        sums.append([p.double().sum().item() for p in learn.model.parameters()])
    assert sums[0]==sums[1], 'the result depends on the number of workers'
'''

@pytest.mark.parametrize('method', ['spawn', 'forkserver', 'fork'])
def test_training_with_workers(data, tmp_path, method):
    "The same weights with 0 and with 2 workers, however these are started"
    (tmp_path/'train.py').write_text(SCRIPT)
    res = subprocess.run([sys.executable, tmp_path/'train.py', method, data, tmp_path], capture_output=True, text=True)
    assert not res.returncode, res.stderr[-2000:]
