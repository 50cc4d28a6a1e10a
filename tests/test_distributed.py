"Two real processes: the same training as one, and an end for both when one is lost"
import json, os, random, signal, socket, subprocess, sys, time
from functools import partial
from pathlib import Path

import numpy as np, pytest, torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.tracker import SaveModelCallback
from fastai.torch_core import rank_distrib, set_seed
from fastai.vision.augment import Flip

from cyclegan_fastai.watch.alarms import Alarms
from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.nets.gan_models import dcgan_critic, dcgan_generator
from cyclegan_fastai.game.gamelearner import game_learner
from cyclegan_fastai.game.gans import GAN
from cyclegan_fastai.game.guard import StopOnNonFinite
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.measure.columns import KID
from cyclegan_fastai.watch.monitor import CriticAccuracy
from cyclegan_fastai.watch.samples import ShowSamples
from cyclegan_fastai.run.experiment import run_experiment
from cyclegan_fastai.run.recipe import load_recipe
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.data.tensors import tensor_dls
from cyclegan_fastai.game.terms import any_rank
from cyclegan_fastai.game.training import TorchOptimizer

# What each process runs: `python tests/test_distributed.py NAME FOLDER`

def make(folder, bs, aug_tfms=(), path=None, **kwargs):
    "A small learner, the same in each process; saves to a folder of its own"
    set_seed(42)
    dls = UnpairedDataLoaders.from_folder(folder/'seasons', size=32, load=32, aug_tfms=list(aug_tfms), bs=bs, domains=('summer','winter'), device='cpu')
    learn = cyclegan_learner(dls, n_blocks=1, nf=4, lr=1e-3, path=path or folder/f'rank{rank_distrib()}', model_dir='.', **kwargs)
    learn.remove_cb(learn.progress)
    learn.logger = lambda *_: None
    return learn

class Double(Callback):
    "Double precision: of the last digit of single precision Adam would make whole steps, wherever the true gradient is zero"
    order = -5
    def before_fit(self): self.learn.model.double()
    def before_batch(self): self.learn.xb = tuple(o.double() for o in self.xb)
    def after_loss(self): self.learn.loss = self.loss.float()          # fastai's running mean is single

class Do(Callback):
    "Call a function with the learner at the end of each training batch"
    order = 80
    def __init__(self, f): self.f,self.n = f,0
    def after_batch(self):
        if self.training: self.n += 1; self.f(self.learn)

def weights(learn): return torch.cat([o.detach().flatten() for o in learn.model.parameters()])

same = dict(adam={}, n_critic=dict(n_critic=2), single_precision=dict(opt_func=partial(TorchOptimizer, opt=torch.optim.SGD, momentum=.5)))

def train(folder, ranks, kind):
    "What is to be the same, whether one process has the whole batch or each of two a half"
    learn = make(folder, 4//ranks, ema=.9, cbs=[CriticAccuracy(), *([] if kind=='single_precision' else [Double()])], **same[kind])
    with learn.distrib_ctx() if ranks>1 else learn.no_bar(): learn.fit(1 if kind=='single_precision' else 3)    # later the last digit grows
    return dict(weights=weights(learn), averages=torch.cat([o.flatten() for o in learn.generator_ema.averages]),
                history=learn.loss_terms.history, curve=learn.loss_terms.curve, values=learn.recorder.values)

def together(folder):
    "All that is asked of two processes that come to a good end"
    from cyclegan_fastai.game.distributed import join_ranks, rank0_first
    join_ranks('cpu', timeout=60)
    rank0_first(seasons, n_train=11, n_test=5, size=32, path=folder/'seasons')
    res = {k: train(folder, 2, k) for k in same}

    draws,shown = [],[]
    learn = make(folder, 2, [Flip(p=.5)], cbs=[Alarms(), SaveModelCallback(every_epoch=True), KID(n=4)])
    def look(learn): draws.append((torch.rand(1).item(), random.random(), np.random.rand())); shown.append(learn.xb[0].clone())
    with learn.distrib_ctx(): learn.fit(2, cbs=[Do(look), ShowSamples(n=3)])
    res.update(draws=draws, shown=torch.cat(shown), files=sorted(o.relative_to(folder).as_posix() for o in learn.path.rglob('*.*')),
               kid=[o['kid_a2b'] for o in learn.loss_terms.history], weights=weights(learn))

    learn = make(folder, 2)
    with learn.distrib_ctx():
        learn.dls.valid.bs = 2
        preds,real = learn.get_preds()
        res['preds'],res['validate'] = preds['fake_b'],list(learn.validate())

    def signalled(learn):
        if any_rank(rank_distrib()==1 and learn.do.n==3): raise CancelFitException()        # one of them was asked to stop
    learn = make(folder, 2)
    with learn.distrib_ctx(): learn.fit(3, cbs=(do := Do(signalled)))
    res['stopped'] = do.n

    def spoil(learn):
        if rank_distrib()==1 and learn.spoil.n==2: learn.xb[1][1,0,3,3] = np.nan
    class Spoil(Do):
        order = -5
        def before_batch(self):
            self.n += self.training
            spoil(self.learn)
        def after_batch(self): pass
    learn = make(folder, 2, cbs=[StopOnNonFinite(), Spoil(spoil)])
    with learn.distrib_ctx(): learn.fit(2)
    res['not_finite'],res['sound'] = learn.stop_on_non_finite.found,weights(learn)

    def ring(look): yield 'a2b',1.,True,'ring'
    learn = make(folder, 2, cbs=[Alarms(stop=True, patience=1, checks=[ring])])
    with learn.distrib_ctx(): learn.fit(3)
    res['alarmed'] = len(learn.loss_terms.history)

    class Late(Callback):
        order = 59
        def after_epoch(self):
            if not rank_distrib(): time.sleep(1)
    learn = make(folder, 2, path=folder/'shared', cbs=[Late(), SaveModelCallback(monitor='valid_cycle')])
    with learn.distrib_ctx(): learn.fit(1)                             # loads at its end what the first process has saved
    res['best'] = weights(learn)

    learn = make(folder, 6)
    try:
        with learn.distrib_ctx(): learn.fit(1)
    except ValueError as e: res['too_large'] = str(e)

    set_seed(42)
    x = torch.rand(10, 1, 32, 32)*2-1
    learn = game_learner(tensor_dls((x,), (x,), bs=2, device='cpu'), GAN(dcgan_generator(32, 1, nf=8, n_in=8), dcgan_critic(32, 1, nf=4), n_noise=8))
    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging(): learn.fit(1)
    res['batch_norm'] = weights(learn)
    torch.save(res, folder/f'{rank_distrib()}.pt')

def lose(folder):
    "One process sends itself a signal in the second epoch"
    name,timeout = (folder/'how').read_text().split()
    learn = make(folder, 2)
    def end(learn):
        if learn.epoch==1 and rank_distrib()==1: os.kill(os.getpid(), getattr(signal, name))
    class Keep(Callback):
        order = 90
        def after_epoch(self): self.learn.save('last')
    with learn.distrib_ctx(timeout=int(timeout)): learn.fit(3, cbs=[Do(end), Keep()])

# Tests

env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def start(what, folder):
    "Two processes without anybody to look after them"
    address = dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    return [subprocess.Popen([sys.executable, __file__, what, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**env, **address, 'RANK': str(i), 'LOCAL_RANK': str(i)}) for i in range(2)]

def end(ps, timeout=120):
    try: return [o.communicate(timeout=timeout)[0] for o in ps]
    finally:
        for o in ps: o.kill()

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "What two processes found, and the folder"
    folder = tmp_path_factory.mktemp('two')
    ps = start('together', folder)
    said = end(ps)
    assert [o.returncode for o in ps]==[0,0], '\n\n'.join(said)
    return [torch.load(folder/f'{i}.pt', weights_only=False) for i in range(2)],folder,said

@pytest.mark.parametrize('kind', same)
def test_two_processes_train_as_one_with_the_joint_batch(two, kind):
    (a,b),folder,_ = two
    a,b = a[kind],b[kind]
    one,tol = train(folder, 1, kind),1e-5 if kind=='single_precision' else 1e-7
    for k in ('weights','averages'):
        assert torch.equal(a[k], b[k])
        assert (a[k]-one[k]).abs().max()<tol
    assert a['history']==b['history'] and a['curve']==b['curve'] and a['values']==b['values']
    for k in ('history','curve'):
        assert len(a[k])==len(one[k])
        for x,y in zip(a[k], one[k]): assert x==pytest.approx(y, abs=10*tol)
    for x,y in zip(a['values'], one['values']): assert list(map(float, x))==pytest.approx(list(map(float, y)), abs=1e-4)

def test_each_draws_its_own_of_the_same_epoch(two):
    (a,b),folder,_ = two
    for x,y in zip(a['draws'], b['draws']): assert not set(x) & set(y)
    data = make(folder, 1).dls
    images = [data.train_ds[i][0] for i in data.train.idxs_a]
    assert len(a['shown'])==len(b['shown'])==2*4                       # of 11 pairs ten are shared, in batches of two
    images = torch.stack([torch.from_numpy(np.array(o.resize((32,32)))).permute(2,0,1)/127.5-1 for o in images])
    def which(x): return min(range(len(images)), key=lambda i: min((x-o).abs().mean().item() for o in (images[i], images[i].flip(-1))))
    for epoch in (slice(0,4), slice(4,8)):
        seen = [which(x) for o in (a,b) for x in o['shown'][epoch]]
        assert len(set(seen))==8, 'an image is seen by one process only'

def test_only_the_first_writes(two):
    (a,b),_,said = two
    assert {'rank0/model_1.pth','rank0/samples/epoch_0000.png','rank0/samples/epoch_0002.png'} <= set(a['files'])
    assert not b['files']

def test_distances_are_the_first_ones(two):
    (a,b),*_ = two
    assert np.isfinite(a['kid']).all() and a['kid']==b['kid'] and torch.equal(a['weights'], b['weights'])

def test_the_best_is_loaded_once_it_is_there(two):
    (a,b),*_ = two
    assert torch.equal(a['best'], b['best'])

def test_predictions_are_of_all_images(two):
    (a,b),*_ = two
    assert a['preds'].shape==(5,3,32,32) and torch.equal(a['preds'], b['preds']) and a['validate']==b['validate']

def test_a_stop_reaches_both(two, lost):
    (a,b),*_ = two
    assert a['stopped']==b['stopped']==3 and a['alarmed']==b['alarmed']==1
    assert a['not_finite']['message']==b['not_finite']['message'] and 'images `real_b` (indices [1] of the batch) of process 1' in a['not_finite']['message']
    assert a['not_finite']['file'].exists() and b['not_finite']['file'] is None
    assert a['sound'].isfinite().all() and torch.equal(a['sound'], b['sound'])
    lost('nothing')

def test_a_batch_must_fit_the_share(two):
    for o in two[0]: assert '`bs` must be at most 5' in o['too_large'] and '2 processes' in o['too_large']

def test_batch_norm_on_a_cpu(two):
    (a,b),*_ = two
    assert torch.equal(a['batch_norm'], b['batch_norm'])

@pytest.mark.parametrize('how', ['SIGKILL 600', 'SIGSTOP 5'], ids=['killed', 'frozen'])
def test_one_is_lost_the_other_ends(tmp_path, how, lost):
    seasons(n_train=8, n_test=4, size=32, path=tmp_path/'seasons')
    (tmp_path/'how').write_text(how)
    a,b = ps = start('lose', tmp_path)
    try: said,_ = a.communicate(timeout=60)
    finally:
        for o in ps: o.kill(); o.wait()
    assert a.returncode==1 and 'ConnectionError: process 0 of 2 ends, because another one was killed' in said and '--resume' in said
    learn = make(tmp_path, 2).load('last')
    assert learn.epochs_done==1
    lost('at most the work since the last checkpoint')

def test_one_is_lost_torchrun_ends_all(tmp_path, lost):
    seasons(n_train=8, n_test=4, size=32, path=tmp_path/'seasons')
    (tmp_path/'how').write_text('SIGKILL 600')
    run = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', __file__, 'lose', str(tmp_path)],
        env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode==1 and 'exitcode  : -9' in run.stderr
    assert make(tmp_path, 2).load('last').epochs_done==1
    lost('at most the work since the last checkpoint')

def test_a_scheduler_ends_the_command_line(tmp_path, lost):
    "SIGTERM to torchrun, as SLURM sends it ahead of the time limit: all stop at the same batch, the first one saves; then it goes on"
    seasons(n_train=8, n_test=4, size=32, path=tmp_path/'seasons')
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m', 'cyclegan_fastai.cli', 'train',
              '--device', 'cpu', '--out', str(tmp_path/'run')]
    small = '--recipe paper --size 32 --blocks 0 --width 4 --bs 2 --epochs 0 --augment flip'.split()
    p = subprocess.Popen([*launch, '--data', str(tmp_path/'seasons'), '--decay-epochs', '8', *small], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait = time.monotonic()+60
        while not (tmp_path/'run'/'last.pth').exists() and p.poll() is None and time.monotonic()<wait: time.sleep(.05)
        p.terminate()
        said,_ = p.communicate(timeout=30)
    finally: p.kill()
    assert p.returncode and said.count('SIGTERM stopped training after')==1 and 'all is saved' in said
    assert not list((tmp_path/'run').glob('*.part')) and not (tmp_path/'run'/'metrics.json').exists()
    done = torch.load(tmp_path/'run'/'last.pth', weights_only=False)['epochs_done']
    assert 1<=done<8
    with pytest.raises(ValueError, match='saved by 2 processes, and 1 would go on .* start 2'):
        run_experiment(load_recipe(tmp_path/'run'), tmp_path/'run', resume=True, device='cpu')
    said = subprocess.run([*launch, '--resume'], env=env, capture_output=True, text=True, check=True, timeout=300).stdout
    history = json.loads((tmp_path/'run'/'metrics.json').read_text())['history']
    assert [o['epoch'] for o in history]==list(range(8)) and said.count('Trained: 8 epochs')==1
    lost('nothing')

def test_without_accelerate(monkeypatch):
    monkeypatch.delitem(sys.modules, 'cyclegan_fastai.game.distributed', raising=False)
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    with pytest.raises(ImportError, match=r"`accelerate`.*pip install 'cyclegan_fastai\[distributed\]'"): import cyclegan_fastai.game.distributed

if __name__=='__main__':
    import cyclegan_fastai.game.distributed
    torch.set_num_threads(1)
    globals()[sys.argv[1]](Path(sys.argv[2]))
