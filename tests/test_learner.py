"The learner: going on exactly, loading, fastai's callbacks, arguments, pictures, export"
import json, math, os, shutil, subprocess, sys
from contextlib import nullcontext
from pathlib import Path

import matplotlib.pyplot as plt, numpy as np, pytest, torch
from PIL import Image
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.progress import CSVLogger, ProgressCallback, ShowGraphCallback
from fastai.callback.schedule import SchedLin
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.all import DataLoader, DataLoaders
from fastai.learner import (Callback, CancelEpochException, CancelFitException, CancelValidException, load_learner,
                            save_model)
from fastai.optimizer import Adam, OptimWrapper
from fastai.torch_core import set_seed
from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.game.game import players
from cyclegan_fastai.game.gamelearner import load_game, random_state
from cyclegan_fastai.game.learner import cyclegan_game, cyclegan_learner
from cyclegan_fastai.nets.losses import cycle_loss
import cyclegan_fastai.watch.monitor # which has a word with `ShowGraphCallback`
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.game.terms import LossTerms

FAMILIES = ['adversarial', 'cycle', 'identity', 'critic']
COLUMNS = [f'{split}_{o}' for split in ('train','valid') for o in ('loss',*FAMILIES)]

@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close('all')

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(8, 6, 32, 1, tmp_path_factory.mktemp('data')/'seasons')

def make(data, folder='.', seed=0, bs=2, bar=False, **kwargs):
    "A small learner that is quiet; `data` is a folder, or loaders"
    set_seed(seed)
    dls = data if isinstance(data, DataLoaders) else UnpairedDataLoaders.from_folder(
        data, 32, bs=bs, domains=('summer','winter'), device='cpu')
    learn = cyclegan_learner(dls, **{**dict(n_blocks=1, nf=4, path=folder), **kwargs})
    learn.logger = lambda *args: None
    return learn if bar else learn.remove_cbs(ProgressCallback)

def pairs(n=8, bs=1, seed=3):
    "Loaders of tensors in order, without a folder"
    a,b = torch.rand(2, n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))*2-1
    dls = DataLoaders(*(DataLoader(list(zip(a, b)), bs=bs) for _ in range(2)), device=torch.device('cpu'))
    dls.n_inp = 2
    return dls

def state(learn):
    "All that training depends on, copied"
    opt,ema = learn.opt.state_dict(),getattr(learn, 'generator_ema', None)
    res = dict(params=dict(learn.model.state_dict()), opt=opt['state'], groups=opt['param_groups'],
               pools={k: list(o.images) for k,o in learn.alternating_trainer.pools.items()}, steps=learn.alternating_trainer.n_steps,
               ema=ema and [ema.averages, ema.n_averaged], history=learn.loss_terms.history, weights=learn.model.weights,
               epochs_done=learn.epochs_done, random=random_state(learn.dls.loaders))
    return copied(res)

def copied(x):
    if isinstance(x, torch.Tensor): return x.detach().clone()
    if isinstance(x, dict): return {k: copied(v) for k,v in x.items()}
    if isinstance(x, (list,tuple)): return [copied(o) for o in x]
    return x

def same(a, b, at=''):
    "Equal, bit for bit; says where it isn't"
    if isinstance(a, dict):
        assert a.keys()==b.keys(), at
        for k in a: same(a[k], b[k], f'{at}/{k}')
    elif isinstance(a, (list,tuple)):
        assert len(a)==len(b), at
        for i,(p,q) in enumerate(zip(a, b)): same(p, q, f'{at}/{i}')
    elif isinstance(a, torch.Tensor): assert torch.equal(a, b), at
    else: assert a==b or a!=a and b!=b, (at, a, b)

def flat(learn, side=0): return torch.cat([p.detach().flatten() for p in players(learn.model)[side]])

# Going on exactly

class SaveAt(Callback):
    order = 100
    def __init__(self, epoch): self.at = epoch
    def after_epoch(self):
        if self.learn.epochs_done==self.at: self.learn.save('halfway')

def fit(learn, schedule, **kwargs):
    if schedule=='flat_lin': learn.fit_flat_lin(2, 2, **kwargs)
    else: learn.fit_one_cycle(4, slice(1e-3, 2e-3), **kwargs)

options = dict(ema=.9, pool_size=3, n_critic=3, lr=1e-3, lambda_identity=SchedLin(5, 0))
SCHEDULES = ['flat_lin', 'one_cycle']

def go_on(data, folder, schedule, seed):
    "What another learner comes to from the file that was saved halfway"
    learn = make(data, Path(folder)/schedule, seed, **options)
    learn.load('halfway')
    assert learn.epochs_done==2 and len(learn.loss_terms.history)==2
    fit(learn, schedule, start_epoch=learn.epochs_done)
    return state(learn)

def child(data, folder):
    "In a process of its own: go on with both schedules, and predict with what was exported"
    torch.set_num_threads(1)
    torch.save({o: go_on(data, folder, o, seed=99) for o in SCHEDULES}, Path(folder)/'child.pt')
    learn = load_learner(Path(folder)/'exported/model.pkl')
    assert not Path(folder, 'exported/data').exists()
    np.save(Path(folder)/'predicted.npy', np.stack([learn.predict(photo(), to=o) for o in ('summer','winter')]))
    (Path(folder)/'domains.json').write_text(json.dumps(learn.domains))

def photo(): return np.arange(40*60*3, dtype=np.uint8).reshape(40, 60, 3)

@pytest.fixture(scope='module')
def straight(data, tmp_path_factory):
    "A run that nobody interrupts, saved halfway, for each schedule; a learner exported, its data gone; then the child's work"
    folder,res = tmp_path_factory.mktemp('runs'),{}
    for o in SCHEDULES:
        learn = make(data, folder/o, seed=5, **options)
        fit(learn, o, cbs=SaveAt(2))
        res[o] = state(learn)
    own = seasons(4, 2, 32, 2, folder/'exported/data')
    learn = make(own, folder/'exported', ema=.5, pool_size=50)
    learn.fit(2, 1e-3)
    learn.export('model.pkl')
    res['predicted'] = np.stack([learn.predict(photo(), to=o) for o in ('summer','winter')])
    shutil.rmtree(own)
    code = f"""import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_learner; test_learner.child({str(data)!r}, {str(folder)!r})"""
    env = {k:v for k,v in os.environ.items() if k!='PYTHONDONTWRITEBYTECODE'}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=env, capture_output=True, text=True)
    assert done.returncode==0, done.stderr
    res['child'] = torch.load(folder/'child.pt', weights_only=False)
    return folder,res

@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('process', ['same', 'new'])
def test_goes_on_exactly(data, straight, schedule, process):
    folder,res = straight
    resumed = go_on(data, folder, schedule, seed=99) if process=='same' else res['child'][schedule]
    same(res[schedule], resumed)
    assert len(resumed['history'])==4 and resumed['steps']==16 and resumed['epochs_done']==4
    assert resumed['opt'] and all(len(o)==3 for o in resumed['pools'].values())

def test_saving_disturbs_nothing(data, straight, tmp_path):
    learn = make(data, tmp_path, seed=5, **options)
    fit(learn, 'flat_lin')
    same(straight[1]['flat_lin'], state(learn))

def test_exported_learner_in_a_new_process(straight):
    folder,res = straight
    assert np.array_equal(np.load(folder/'predicted.npy'), res['predicted'])
    assert res['predicted'][0].std()>0 and not np.array_equal(*res['predicted'])
    assert json.loads((folder/'domains.json').read_text())==['summer','winter']

def test_goes_on_under_fastai_callbacks(data, tmp_path):
    "With a progress bar and callbacks that watch a column: there are no rows for the epochs before"
    learn = make(data, tmp_path, bar=True)
    learn.fit(3, start_epoch=1, cbs=[SaveModelCallback('valid_cycle', comp=np.less), ShowGraphCallback()])
    assert len(learn.recorder.values)==2 and learn.epochs_done==3

class SaveWithin(Callback):
    order = 100
    def after_batch(self):
        if self.training and (self.epoch,self.iter)==(1,1): self.learn.save('within')

def test_goes_on_exactly_within_an_epoch(data, tmp_path):
    "From a checkpoint between two batches; from one that was loaded and saved again; and after `lr_find`"
    learn = make(data, tmp_path, seed=5, **options)
    fit(learn, 'flat_lin', cbs=SaveWithin())
    expected = state(learn)
    for again in (lambda o: o, lambda o: o.load(o.save('again').stem), lambda o: (o.lr_find(num_it=12, stop_div=False, show_plot=False), o)[1]):
        other = again(make(data, tmp_path, seed=99, **options).load('within'))
        assert (other.epochs_done,other.batches_done)==(1,2)
        fit(other, 'flat_lin', start_epoch=other.epochs_done)
        same(expected, state(other))

@pytest.mark.parametrize('used', [False, True])
@pytest.mark.parametrize('bar', [False, True])
def test_lr_find_leaves_no_trace(data, tmp_path, used, bar):
    ends = []
    for find in (False,True):
        learn = make(data, tmp_path, bar=bar, **options)
        if used: learn.fit(1)
        else: learn.create_opt()
        before = state(learn)
        if find:
            assert learn.lr_find(num_it=12, stop_div=False, show_plot=False).valley>0
            assert len(learn.recorder.lrs)==12
        after = state(learn)
        for o in before['groups']+after['groups']: o.pop('lr') # any `fit` begins by setting it
        same(before, after)
        learn.fit_flat_lin(1, 1)
        ends.append(state(learn))
    same(*ends)

# Saving and loading

def test_weights_alone(data, tmp_path):
    learn,other = (make(data, tmp_path, seed=o) for o in (0,1))
    learn.fit(1)
    file = learn.save('weights', with_opt=False)
    assert set(torch.load(file, weights_only=True))==set(learn.model.state_dict())
    other.create_opt()
    before = state(other)
    other.load('weights', with_opt=False)
    after = state(other)
    same(before.pop('params').keys(), after['params'].keys())
    same(dict(learn.model.state_dict()), after.pop('params'))
    same(before, after)
    with pytest.warns(UserWarning, match='holds weights alone'): other.load('weights')
    assert not list(file.parent.glob('*.part'))

def test_weights_alone_are_those_that_predict(data, tmp_path):
    learn,other = (make(data, tmp_path, seed=o, ema=.9) for o in (0,1))
    learn.fit(1, 1e-2)
    predicted = np.array(learn.predict(photo()))
    for with_opt in (False,True):
        learn.save('model', with_opt=with_opt)
        other.fit(1, 1e-2) # it has averages of its own, which must not survive
        other.load('model', with_opt=False)
        assert np.array_equal(other.predict(photo()), predicted)

@pytest.mark.parametrize('ema', [None, .9])
@pytest.mark.parametrize('with_opt', [False, True])
def test_a_game_without_a_learner(data, tmp_path, ema, with_opt):
    learn = make(data, tmp_path, ema=ema)
    learn.fit(1, 1e-2)
    file,batch = learn.save('model', with_opt=with_opt),learn.dls.valid.one_batch()
    with learn.evaluating() as game: expected = copied(game(*batch))
    game = load_game(file.with_suffix(''), cyclegan_game(1, 4), 'cpu')
    assert not game.training and game.device.type=='cpu'
    with torch.no_grad(): same(expected, game(*batch))
    with pytest.raises(ValueError, match='networks of another shape'): load_game(file, cyclegan_game(1, 6))
    with pytest.raises(FileNotFoundError, match="doesn't exist"): load_game(tmp_path/'missing', game)
    truncated(file)
    with pytest.raises(ValueError, match='is damaged'): load_game(file, game)

def test_the_game_is_that_of_the_learner(data):
    options = dict(n_blocks=2, nf=5, critic_nf=6, dropout=.1, up='resize', adversarial='hinge', lambda_cycle=3., lambda_identity=2., lambda_consistency=1.)
    learn = make(data, seed=7, **options)
    set_seed(7)
    UnpairedDataLoaders.from_folder(data, 32, bs=2, domains=('summer','winter'), device='cpu')
    game = cyclegan_game(**options)
    same(dict(learn.model.state_dict()), dict(game.state_dict()))
    assert (game.weights, game.adversarial)==(learn.model.weights, 'hinge')

def garbage(file): file.write_bytes(b'no tensors at all'*50)
def truncated(file): file.write_bytes(file.read_bytes()[:-3000])
def flipped(file):
    data = bytearray(file.read_bytes())
    for i in range(2000, 2100): data[i] ^= 255
    file.write_bytes(data)
def empty(file): file.write_bytes(b'')
def foreign(file): torch.save([1, 2], file)
def strange_names(file): torch.save({'weight': torch.zeros(1)}, file)

@pytest.mark.parametrize('harm,message', [
    *((o, 'is damaged') for o in (garbage, truncated, empty, flipped)), (foreign, 'another shape'), (strange_names, 'another shape')])
def test_damaged_files(data, tmp_path, harm, message):
    learn = make(data, tmp_path)
    before = flat(learn)
    harm(learn.save('model'))
    with pytest.raises(ValueError, match=message): learn.load('model')
    assert torch.equal(flat(learn), before)

def test_other_files(data, tmp_path):
    learn,wide = make(data, tmp_path, ema=.9),make(data, tmp_path, nf=6)
    with pytest.raises(FileNotFoundError, match="doesn't exist"): learn.load('missing')
    learn.fit(1)
    kept = torch.load(learn.save('model'), weights_only=True)['callbacks']
    assert set(kept)=={'alternating_trainer','loss_terms','generator_ema'}, 'only callbacks that have a state of their own'
    with pytest.raises(ValueError, match='networks of another shape'): wide.load('model')
    fastai_adam = make(data, tmp_path, opt_func=Adam)
    with pytest.raises(ValueError, match='another optimizer'): fastai_adam.load('model')
    with pytest.warns(UserWarning, match='`generator_ema`, which'): make(data, tmp_path).load('model')
    save_model(tmp_path/'models/plain.pth', learn.model, learn.opt)                          # fastai's own
    other = make(data, tmp_path, seed=1)
    with pytest.warns(UserWarning, match='holds weights alone'): other.load('plain')
    assert torch.equal(flat(other), flat(learn))

class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)

@pytest.mark.parametrize('weights_only', [True, False])
def test_no_code_is_run_from_a_file(data, tmp_path, weights_only):
    learn = make(data, tmp_path)
    torch.save(dict(model=learn.model.state_dict(), callbacks=Evil(tmp_path/'owned')), learn.save('evil'))
    with pytest.raises(ValueError, match='which `load` refuses'): learn.load('evil', weights_only=weights_only)
    assert not (tmp_path/'owned').exists()
    torch.load(tmp_path/'models/evil.pth', weights_only=False)
    assert (tmp_path/'owned').exists(), 'the file is harmless, the test proves nothing'

def test_export_goes_without_pictures_and_training_goes_on(data, tmp_path):
    sizes = []
    for epochs in (0,5):
        learn,other = (make(data, tmp_path, pool_size=40, ema=.9) for _ in range(2))
        for o in (learn,other):
            set_seed(3)
            if epochs: o.fit(epochs)
        learn.export()
        sizes.append((tmp_path/'export.pkl').stat().st_size)
    assert len(learn.alternating_trainer.pool_a)==40
    assert sizes[1]-sizes[0] < 20_000 < 40*3*32*32*4
    for o in (learn,other):
        set_seed(4)
        o.fit(1)
    same(state(other), state(learn))

# fastai's callbacks

def test_columns(data, tmp_path):
    learn = make(data, tmp_path, cbs=CSVLogger())
    learn.fit(2)
    assert list(learn.recorder.metric_names)==['epoch', *COLUMNS, 'time']
    log = learn.csv_logger.read_log()
    assert list(log.columns)==['epoch', *COLUMNS, 'time'] and len(log)==2
    rows = learn.loss_terms.history
    for split in ('train','valid'):
        for name in FAMILIES:
            parts = [[v for k,v in row.items() if k.startswith(f'{split}_{name}_')] for row in rows]
            assert [len(o) for o in parts]==[2,2]
            assert log[f'{split}_{name}'].tolist()==pytest.approx([sum(o) for o in parts])
    weighed = sum(w*log[f'valid_{k}'] for k,w in learn.model.weights.items() if w)
    assert log['valid_loss'].tolist()==pytest.approx(weighed.tolist(), rel=1e-4)

def test_terms_are_means_over_images():
    "The last batch may be smaller"
    dls = pairs(n=5, bs=4)
    learn = make(dls)
    learn.validate()
    play = learn.play(*(torch.stack(o) for o in zip(*dls.valid.dataset)))
    assert learn.loss_terms.means()['cycle_a']==pytest.approx(cycle_loss(play['real_a'], play['cycled_a']).item(), rel=1e-5)

class Grads(Callback):
    "The gradients of the step that is about to be made"
    order = 100
    def before_fit(self): self.all = []
    def before_step(self): self.all.append(torch.cat([p.grad.flatten() for p in self.learn.model.parameters()]))

def test_accumulated_gradients():
    grads = []
    for bs,cbs in ((4,[]), (1,[GradientAccumulation(4)])):
        learn = make(pairs(n=8, bs=bs), pool_size=0)
        learn.fit(1, lr=0., cbs=[*cbs, Grads()])
        assert learn.alternating_trainer.n_steps==2
        learn.fit(1, lr=0., cbs=[*cbs, keep := Grads()])
        grads.append(keep.all)
    assert len(grads[0])==len(grads[1])==2
    far = lambda a, b: (a-b).norm()/a.norm()
    for a,b in zip(*grads): assert far(a, b)<1e-2 # a rounding may carry a pixel over the kink of ReLU or L1
    assert far(*grads[0])>.1

def test_turns_are_counted_in_steps():
    learn = make(pairs(n=8), n_critic=2)
    learn.fit(1, cbs=GradientAccumulation(2))
    steps = [learn.opt.opt.state[o[0]]['step'].item() for o in players(learn.model)]
    assert steps==[2,4]

def test_clipped_gradients():
    norms = []
    for cbs in ([], [GradientClip(.5)]):
        make(pairs()).fit(1, lr=0., cbs=[*cbs, keep := Grads()])
        norms.append([o.norm().item() for o in keep.all])
    assert min(norms[0])>1 and norms[1]==pytest.approx([.5]*8, rel=1e-3)

@pytest.mark.parametrize('mode', list(AMPMode))
@pytest.mark.parametrize('accumulate', [False, True])
def test_mixed_precision(mode, accumulate):
    learn = make(pairs(n=4), cbs=MixedPrecision(amp_mode=mode), ema=.9)
    before = [flat(learn, o) for o in (0,1)]
    learn.fit(1, cbs=GradientAccumulation(2) if accumulate else None)
    for side in (0,1): assert flat(learn, side).isfinite().all() and not torch.equal(flat(learn, side), before[side])
    assert all(np.isfinite(o) for o in learn.recorder.values[0])

class KeepEach(Callback):
    "The weights that predict, at the end of each epoch"
    order = 100
    def before_fit(self): self.all = []
    def after_epoch(self):
        with self.learn.averaged(): self.all.append(flat(self.learn))

@pytest.mark.parametrize('ema', [None, .9])
def test_save_model_brings_back_the_best(tmp_path, ema):
    "Less is better for a loss, whatever fastai makes of its name"
    learn = make(pairs(), tmp_path, ema=ema, lr=3e-3)
    learn.fit(3, cbs=[SaveModelCallback('valid_cycle'), keep := KeepEach()])
    i = np.argmin([o[COLUMNS.index('valid_cycle')] for o in learn.recorder.values])
    with learn.averaged(): assert [torch.equal(flat(learn), o) for o in keep.all]==[o==i for o in range(3)]

def test_every_epoch_is_kept(tmp_path):
    learn = make(pairs(n=2), tmp_path)
    learn.fit(2, cbs=SaveModelCallback(every_epoch=True, with_opt=True))
    done = [make(pairs(n=2), tmp_path).load(f'model_{o}').epochs_done for o in (0,1)]
    assert done==[1,2]

def test_early_stopping():
    learn = make(pairs(n=2))
    learn.fit(9, cbs=EarlyStoppingCallback('valid_cycle', comp=np.less, min_delta=100., patience=2))
    assert learn.epochs_done==3 and len(learn.loss_terms.history)==3

def test_graph_shows_the_validation_loss():
    learn,seen = make(pairs(n=2), bar=True),[]
    class Spy(Callback):
        order = ShowGraphCallback.order-1
        def before_train(self): self.learn.progress.mbar.update_graph = lambda *args: seen.append(args)
    learn.fit(3, cbs=[ShowGraphCallback(), Spy()])
    (_,(x,y)),xs,ys = seen[-1]
    assert x==[2,4,6] and y==[o[COLUMNS.index('valid_loss')] for o in learn.recorder.values]
    assert xs==(0,6) and seen[0][1]==(0,6) and ys[1]>=max(y)

def test_tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    from fastai.callback.tensorboard import TensorBoardCallback
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    learn = make(pairs(n=2), lambda_identity=lambda pos: 5.*(pos<.5))
    learn.fit(2, lr=[1e-3,1e-4], cbs=TensorBoardCallback(tmp_path, trace_model=False, log_preds=False))
    log = EventAccumulator(str(tmp_path)).Reload()
    assert {*COLUMNS, 'lr_0', 'lr_1', 'mom_0'} <= set(log.Tags()['scalars'])
    assert [log.Scalars(f'lr_{o}')[0].value for o in (0,1)]==pytest.approx([1e-3,1e-4])
    assert [o.value for o in log.Scalars('valid_cycle')]==pytest.approx([o[COLUMNS.index('valid_cycle')] for o in learn.recorder.values])

# Arguments

class Ours(Callback): pass
def brightness(play, *reals): return play['fake_a'].mean()

def test_arguments_arrive(data, tmp_path):
    learn = make(data, tmp_path/'p', lr=3e-3, wd=.02, moms=(.6,.4,.6), model_dir='m', metrics=brightness, cbs=Ours,
                 pool_size=7, n_critic=2, ema=.5)
    learn.fit(1)
    assert learn.save('x')==tmp_path/'p/m/x.pth'
    assert [(o['lr'],o['wd'],o['mom']) for o in learn.opt.hypers]==[(3e-3,.02,.5)]*2
    assert 'valid_brightness' in learn.recorder.metric_names and hasattr(learn, 'ours')
    assert learn.alternating_trainer.pool_a.size==7 and learn.alternating_trainer.n_critic==2 and learn.generator_ema.decay==.5
    learn.fit_one_cycle(1)
    assert learn.recorder.hps['mom'][:2]==pytest.approx([.6,.4]), 'four batches: the warm-up is the first'

def test_defaults_are_the_papers(data, tmp_path):
    learn = make(data, tmp_path)
    learn.create_opt()
    assert [(o['lr'],o['mom'],o['sqr_mom'],o['wd']) for o in learn.opt.hypers]==[(2e-4,.5,.999,0)]*2
    learn.fit_one_cycle(1)
    assert set(learn.recorder.hps['mom'])=={.5}, 'β1 must stay 0.5'
    assert learn.alternating_trainer.pool_a.size==50
    assert learn.model.weights==dict(adversarial=1., cycle=10., identity=5., critic=.5, consistency=0.)

@pytest.mark.parametrize('lr,rates', [([1e-3,1e-4], [1e-3,1e-4]), (slice(1e-4,1e-3), [1e-4,1e-3]), (1e-3, [1e-3,1e-3])])
def test_rates_of_two_sides(lr, rates):
    learn = make(pairs(n=1), lr=lr)
    learn.fit(1)
    assert [o['lr'] for o in learn.opt.hypers]==pytest.approx(rates)

def test_other_optimizers():
    learn = make(pairs(n=2), opt_func=Adam)
    learn.fit(1)
    assert learn.opt.hypers[0]['eps']==1e-5
    learn = make(pairs(n=2), opt_func=lambda params, **kw: OptimWrapper(params, torch.optim.SGD, **kw))
    learn.fit(1)
    assert isinstance(learn.opt.opt, torch.optim.SGD)

def test_loaders_without_pairs():
    dls = pairs()
    dls.n_inp = 1
    with pytest.raises(TypeError, match='`dls.n_inp = 2`'): make(dls)

# Averaged generators

class Trail(Callback):
    "The generators after each step"
    order = 100
    def before_fit(self): self.all = []
    def after_step(self): self.all.append(flat(self.learn))

def test_averages_by_hand():
    learn = make(pairs(), ema=.4)
    learn.fit(1, 1e-2, cbs=(trail := Trail()))
    avg = trail.all[0]
    for n,p in enumerate(trail.all, 1): avg = torch.lerp(avg, p, 1-min(.4, (1+n)/(10+n)))
    with learn.averaged():
        torch.testing.assert_close(flat(learn), avg)
        with learn.averaged(): pass
        torch.testing.assert_close(flat(learn), avg)
        with learn.averaged(False): assert torch.equal(flat(learn), trail.all[-1])
    assert torch.equal(flat(learn), trail.all[-1]) and not torch.allclose(avg, trail.all[-1])

@pytest.mark.parametrize('error', [None, CancelValidException, CancelEpochException, CancelFitException, RuntimeError, KeyboardInterrupt])
def test_averages_step_back_whatever_happens(error):
    seen = []
    class Valid(Callback):
        order = 90
        def after_batch(self):
            if self.training: return
            seen.append(flat(self.learn))
            if error: raise error('stop')
    learn = make(pairs(n=3), ema=.5)
    with pytest.raises(error) if error in (RuntimeError,KeyboardInterrupt) else nullcontext():
        learn.fit(1, 1e-2, cbs=[Valid(), trail := Trail()])
    assert torch.equal(flat(learn), trail.all[-1]) and not torch.equal(seen[0], trail.all[-1])
    with learn.averaged(): assert torch.equal(flat(learn), seen[0])

# Weights of the terms

class Weights(Callback):
    order = 100
    def before_fit(self): self.all = []
    def after_loss(self):
        if self.training: self.all.append((self.learn.model.weights['identity'], 'identity_a' in self.learn.pred))

def test_a_weight_follows_its_schedule():
    learn = make(pairs(n=4), lambda_identity=SchedLin(5, 0))
    assert learn.model.weights['identity']==5
    learn.fit(2, cbs=(keep := Weights()))
    assert [o for o,_ in keep.all]==pytest.approx([5*(1-i/8) for i in range(8)])

def test_no_identity_passes_without_weight():
    learn = make(pairs(n=4), lambda_identity=lambda pos: 5. if pos<.4 else 0.)
    learn.fit(2, cbs=(keep := Weights()))
    assert [o for _,o in keep.all]==[True]*4+[False]*4
    assert list(learn.recorder.metric_names)==['epoch', *COLUMNS, 'time']
    assert math.isnan(learn.recorder.values[1][COLUMNS.index('train_identity')])
    assert 'train_identity_a' in learn.loss_terms.history[0] and 'train_identity_a' not in learn.loss_terms.history[1]

def test_families_without_weight_have_no_column():
    learn = make(pairs(n=1), lambda_identity=0, lambda_consistency=1.)
    assert [o.name for o in learn.metrics]==['adversarial','cycle','critic','consistency']

def test_unknown_family():
    with pytest.raises(ValueError, match="`LossTerms` got \\['cycles'\\]"): make(pairs(), cbs=LossTerms(cycles=1))

def test_weights_in_a_file_are_those_on_schedule(tmp_path):
    learn = make(pairs(n=2), tmp_path, lambda_identity=SchedLin(5, 1))
    learn.fit(1)
    learn.save('x')
    other = make(pairs(n=2), tmp_path, lambda_cycle=3., lambda_identity=SchedLin(5, 1)).load('x')
    assert other.model.weights['identity']==3 and other.model.weights['cycle']==3

# Looking

def test_validate_and_get_preds(data, tmp_path):
    learn = make(data, tmp_path, ema=.5, lr=1e-2)
    learn.fit(1)
    before,last = state(learn),list(learn.recorder.values[-1])
    values = learn.validate()
    same({**before, 'random': 0}, {**state(learn), 'random': 0})
    assert list(values)==pytest.approx(last[5:])
    play,reals = learn.get_preds()
    expected = learn.play(*map(torch.cat, zip(*learn.dls.valid)))
    assert play.keys()==expected.keys() and [len(o) for o in reals]==[6,6]
    for k in play: torch.testing.assert_close(torch.as_tensor(play[k]), torch.as_tensor(expected[k]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(torch.as_tensor(reals[i]), torch.as_tensor(play[k])) for i,k in enumerate(('real_a','real_b')))
    assert len(learn.get_preds(ds_idx=0, with_input=True))==3
    with pytest.raises(NotImplementedError, match='`play`'): learn.get_preds(with_loss=True)
    same({**before, 'random': 0}, {**state(learn), 'random': 0})

def test_summary(data, tmp_path):
    learn = make(data, tmp_path)
    text = str(learn.summary())
    for o in ('generator_a2b','generator_b2a','critic_a','critic_b'):
        n = sum(p.numel() for p in getattr(learn.model, o).parameters())
        assert any(line.split()[:2]==[o, f'{n:,}'] for line in text.splitlines())
    assert f'Total params: {sum(p.numel() for p in learn.model.parameters()):,}' in text
    assert 'bound method' not in text and "'cycle': 10.0" in text

def test_show_results(data, tmp_path):
    learn = make(data, tmp_path)
    learn.show_results(max_n=3)
    axes = plt.gcf().axes
    assert len(axes)==18
    assert [o.get_ylabel() for o in axes[::3]]==['real summer','to winter','back to summer','real winter','to summer','back to winter']
    fake = learn.play(*learn.dls.valid.one_batch())['fake_b'][0]
    np.testing.assert_allclose(axes[3].images[0].get_array(), (fake.permute(1,2,0).numpy()+1)/2, atol=1e-5)
    assert learn.model.training, 'looking leaves the mode as it was'

@pytest.fixture(scope='module')
def painter(data, tmp_path_factory):
    learn = make(data, tmp_path_factory.mktemp('painter'), lr=1e-2)
    learn.fit(1)
    return learn

u8 = photo()
CHW = torch.tensor(u8).permute(2,0,1)
@pytest.mark.parametrize('image', [
    Path, str, Image.fromarray(u8), u8, u8.astype(np.int64), u8/255, (u8/255).astype(np.float32), CHW, CHW.int(), CHW/255,
    (CHW/255).double(), torch.tensor(u8), CHW.numpy()], ids=lambda o: f'{type(o).__name__}-{getattr(o, "dtype", "")}')
def test_predict_takes_any_image(painter, tmp_path, image):
    if isinstance(image, type): # a path of this type
        Image.fromarray(u8).save(tmp_path/'x.png')
        image = image(tmp_path/'x.png')
    res = painter.predict(image)
    assert res.mode=='RGB' and res.size==(48,32)
    assert np.array_equal(res, painter.predict(Image.fromarray(u8)))

@pytest.mark.parametrize('image', [u8[...,0], u8[...,:1], CHW[0], CHW[:1], Image.fromarray(u8[...,0]), u8[...,0]/255.])
def test_predict_takes_grey_images(painter, image):
    assert np.array_equal(painter.predict(image), painter.predict(u8[...,:1].repeat(3, 2)))

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_predict_takes_half_precision(painter, dtype):
    coarse = (CHW/255).to(dtype)
    assert np.array_equal(painter.predict(coarse), painter.predict(coarse.float()))

@pytest.mark.parametrize('wh,size,expected', [
    ((32,32),None,(32,32)), ((31,47),None,(32,49)), ((500,33),None,(485,32)), ((7,9),None,(32,41)), ((64,48),48,(64,48)),
    ((3,300),None,(32,3200))])
def test_predict_keeps_proportions(painter, wh, size, expected):
    assert painter.predict(Image.new('RGB', wh, 'green'), size=size).size==expected

def test_predict_goes_both_ways(painter):
    there,back = painter.predict(u8),painter.predict(u8, to='summer')
    assert np.array_equal(there, painter.predict(u8, to='winter')) and not np.array_equal(there, back)
    x = torch.tensor(np.array(Image.fromarray(u8).resize((48,32), Image.Resampling.BILINEAR))).permute(2,0,1)[None]/127.5-1
    with torch.no_grad(): y = painter.model.generator_a2b.eval()(x)[0]
    np.testing.assert_allclose(np.array(there)/127.5-1, y.permute(1,2,0).numpy(), atol=.0045)

def test_its_translator_is_a_copy(data, tmp_path):
    "With averaged weights; further training doesn't reach it"
    learn = make(data, tmp_path, ema=.5, lr=1e-2)
    learn.fit(1)
    t,predicted = learn.translator(about=dict(recipe=dict(data='x'))),np.array(learn.predict(u8))
    assert (t.domains, t.size, t.about)==(('summer','winter'), 32, dict(recipe=dict(data='x')))
    assert np.array_equal(t(Image.fromarray(u8), size=32), predicted)
    learn.fit(1)
    assert np.array_equal(t(Image.fromarray(u8), size=32), predicted) and not np.array_equal(learn.predict(u8), predicted)

def test_a_trusted_pickle_translates(painter):
    from cyclegan_fastai.use.translator import Translator
    painter.export('own.pkl')
    with pytest.warns(UserWarning, match='runs any code in it'): t = Translator.load(painter.path/'own.pkl', trust=True)
    assert np.array_equal(t(Image.fromarray(u8), size=32), painter.predict(u8))

@pytest.mark.parametrize('image,to,error,message', [
    (3, None, TypeError, 'must be a path'), ([1,2], None, TypeError, 'must be a path'), (u8, 'autumn', ValueError, "'summer' or 'winter'"),
    (CHW[None], None, ValueError, 'got the shape'), (np.zeros((5,5,2)), None, ValueError, 'got the shape'),
    (CHW/127.5-1, None, ValueError, 'from 0 to 1'), (u8.astype(int)*2, None, ValueError, 'from 0 to 255'),
    (Path('no.png'), None, FileNotFoundError, 'no.png')])
def test_predict_refuses(painter, image, to, error, message):
    with pytest.raises(error, match=message): painter.predict(image, to=to)

@pytest.mark.parametrize('kind', ['fastai', 'torch'])
def test_loaders_of_tensors(tmp_path, kind):
    dls = pairs(n=4, bs=2)
    if kind=='torch':
        dls = DataLoaders(*(torch.utils.data.DataLoader(o.dataset, batch_size=2, shuffle=True) for o in dls), device='cpu')
        dls.n_inp = 2
    learn = make(dls, tmp_path)
    learn.fit_one_cycle(1)
    learn.load(learn.save('x').stem)
    assert len(learn.validate())==5 and learn.domains==('A','B')
    learn.show_results(max_n=2)
    assert len(plt.gcf().axes)==12
    assert learn.predict(np.zeros((36,40,3), np.uint8), to='A').size==(40,36)
