"After an error, Ctrl-C included, the learner is in order: what comes next is what it would have been"
import pytest, torch
from contextlib import nullcontext
from pathlib import Path
from fastai.vision.all import *
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.game.fast import *
from cyclegan_fastai.game.fast import _Progress
from cyclegan_fastai.game.schedule import ProgressiveResize
from cyclegan_fastai.game.state import copied_state
from test_learner import make, pairs, flat, same, state

EVENTS = ['before_fit', 'before_batch', 'after_pred', 'after_loss', 'after_backward', 'after_step', 'after_batch', 'before_validate', 'after_epoch']

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(8, 6, 32, 1, tmp_path_factory.mktemp('data')/'seasons')

class Break(Callback):
    "Raise an error at one event of a fit"
    order = 200                                                      # after all others, when they have done what they do
    def __init__(self, at, error=KeyboardInterrupt, split='train'):
        self.at,self.error,self.in_train = at,error,split=='train'
    def __call__(self, event_name):
        super().__call__(event_name)
        if event_name==self.at and (event_name in ('before_fit','before_validate','after_epoch') or self.training==self.in_train): raise self.error('broken')

def broken_fit(learn, at, error=KeyboardInterrupt, **kwargs):
    with pytest.raises(error): learn.fit(1, cbs=[Break(at, error), *L(kwargs.pop('cbs', None))], **kwargs)

# Export, save and load

@pytest.mark.parametrize('where', ['/proc/model.pkl', 'a_file/model.pkl'])
@pytest.mark.parametrize('used', [False, True])
def test_a_failed_export_changes_nothing(data, tmp_path, where, used):
    (tmp_path/'a_file').write_text('no folder')
    learn,other = (make(data, tmp_path, ema=.9, bs=2) for _ in range(2))
    for o in (learn, other):
        set_seed(1)
        if used: o.fit(1)
    dls,opt = learn.dls,learn.opt
    with pytest.raises(OSError, match=f"{where}` can't be written .*choose a folder that may be written to"): learn.export(where)
    assert learn.dls is dls and learn.opt is opt
    for o in (learn, other):
        set_seed(2)
        o.fit(1)
    same(state(other), state(learn))

def test_an_exported_learner_that_fails_keeps_the_file_before(data, tmp_path):
    learn = make(data, tmp_path)
    learn.export()
    before = (tmp_path/'export.pkl').read_bytes()
    learn.cannot = (o for o in ())                                   # no generator can be pickled
    with pytest.raises(TypeError): learn.export()
    assert (tmp_path/'export.pkl').read_bytes()==before and not list(tmp_path.glob('*.part'))

def test_export_keeps_the_optimizer(data, tmp_path):
    learn = make(data, tmp_path)
    learn.freeze()
    opt = learn.opt
    learn.export()
    assert learn.opt is opt and learn.opt.frozen_idx==1

class Picky(Callback):
    "Its state in a file isn't one that it knows"
    order,n = 200,0
    def after_step(self): self.n += 1
    def state_dict(self): return dict(n=self.n)
    def load_state_dict(self, state): return {0: 'its own'}[state['n']]

@pytest.mark.parametrize('change', [dict(nf=8), dict(ema=None, cbs=Picky)])
def test_a_failed_load_changes_nothing(data, tmp_path, change):
    saved = make(data, tmp_path, ema=.9, cbs=Picky)
    saved.fit(1)
    saved.save('x')
    learn = make(data, tmp_path, **{**dict(ema=.9), **change})
    learn.create_opt()
    before = state(learn)
    with pytest.raises(ValueError, match='x.pth'): learn.load('x')
    same(before, state(learn))
    assert learn.epochs_done==0

# Training that is broken off

@pytest.mark.parametrize('at', EVENTS)
def test_what_comes_next_is_as_after_a_whole_fit(data, tmp_path, at):
    "The same weights, random states and optimizer give the same next epoch, whether the last one was broken off or not"
    learn = make(data, tmp_path, ema=.9, n_critic=2, bar=True, cbs=ProgressiveResize(28, 1.))
    logger,loss = learn.logger,learn.loss_func
    broken_fit(learn, at)
    assert learn.logger is logger and learn.loss_func==loss and learn.model.turn==('generators','critics')
    assert all(p.grad is None for p in learn.model.parameters())
    assert all(cb.run for cb in learn.cbs) and not hasattr(learn.progress, 'mbar')
    assert learn.play(*learn.dls.one_batch())['cycled_a'].shape==(2,3,32,32)
    fresh = make(data, tmp_path, ema=.9, n_critic=2, cbs=ProgressiveResize(28, 1.))
    fresh.create_opt()
    fresh._take(copied_state(learn._snapshot()))
    for o in (learn, fresh):
        set_seed(5)
        o.dls.train.rng,o.dls.valid.rng = random.Random(1),random.Random(2)
        o.fit(1)
    same(state(fresh)['params'], state(learn)['params'])

def test_validation_sees_whole_images_after_a_broken_fit(data, tmp_path):
    sizes = []
    class Look(Callback):
        order = 90
        def before_batch(self): sizes.append(self.xb[0].shape[-1])
    learn = make(data, tmp_path, cbs=ProgressiveResize(28, 1.))
    broken_fit(learn, 'after_loss')
    learn.validate(cbs=Look())
    assert set(sizes)=={32}

@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError, CancelBatchException, CancelFitException])
@pytest.mark.parametrize('at', ['before_batch', 'after_pred', 'after_backward'])
def test_autocast_ends(error, at):
    "Autocast that stays on casts all that comes after, and keeps its copies of the weights: the networks learn nothing"
    learn = make(pairs(), cbs=HalfPrecision())
    cancelled = issubclass(error, (CancelBatchException,CancelFitException))
    with nullcontext() if cancelled else pytest.raises(error): learn.fit(1, cbs=Break(at, error))
    assert not torch.is_autocast_enabled('cpu')
    assert torch.autocast_increment_nesting()==1 and torch.autocast_decrement_nesting()==0
    assert learn.model.generator_a2b(torch.rand(1,3,32,32)).dtype==torch.float32

class Sees(Callback):
    "Is off in `lr_find`, as are fastai's trackers, `Alarms` and `StopOnNonFinite`"
    n = 0
    def before_fit(self): self.run = not hasattr(self.learn, 'lr_finder')
    def after_batch(self): self.n += 1

@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize('used', [False, True])
def test_an_interrupted_lr_find_leaves_no_trace(data, tmp_path, error, used):
    learn = make(data, tmp_path, ema=.9, cbs=Sees())
    if used: learn.fit(1)
    else: learn.create_opt()
    class Late(Callback):
        order = 200
        def after_batch(self):
            if hasattr(self.learn, 'lr_finder') and self.train_iter>8: raise error('stop')
    learn.add_cb(Late())
    before = state(learn)
    with pytest.raises(error): learn.lr_find(num_it=12, start_lr=1, end_lr=10, stop_div=False, show_plot=False)
    after = state(learn)
    for o in before['groups']+after['groups']: o.pop('lr')            # any `fit` begins by setting it
    same(before, after)
    n = learn.sees.n
    learn.fit(1)
    assert learn.sees.n==n+len(learn.dls.train)+len(learn.dls.valid), 'a callback that was off stays off'

def test_a_position_that_does_not_fit_stays_refused(data, tmp_path):
    class SaveIn(Callback):
        order = 200
        def after_batch(self):
            if self.training and self.iter==2: self.learn.save('within')
    make(data, tmp_path, cbs=SaveIn()).fit(1)
    learn = make(data, tmp_path, bs=4)
    learn.load('within')
    for _ in range(2):
        with pytest.raises(ValueError, match='saved after batch 3 of an epoch, which here has 2'): learn.fit(1)

# fastai's contexts

def test_a_failed_validation_locks_nothing(data, tmp_path):
    class Refuses(Callback):
        def before_fit(self): raise RuntimeError('no')
    learn = make(data, tmp_path)
    for bad,error in ((Refuses(),RuntimeError), (3,AttributeError)):
        with pytest.raises(error): learn.validate(cbs=bad)
        assert not learn.lock.locked() and learn.create_mbar
        learn.validate()

def test_no_bar_gives_back_the_bar(data, tmp_path):
    learn = make(data, tmp_path, bar=True).to_fast(compiled=False)
    bar = learn.progress
    with pytest.raises(KeyboardInterrupt), learn.no_bar():
        assert not hasattr(learn, 'progress')
        learn.fit(1, cbs=Break('after_loss'))
    assert learn.progress is bar and isinstance(bar, _Progress)

def test_the_log_goes_on_after_a_broken_fit(data, tmp_path):
    lines = []
    learn = make(data, tmp_path, bar=True)
    learn.logger = lines.append
    broken_fit(learn, 'after_loss')
    with learn.no_bar(): learn.fit(1)
    assert len(lines)==1, 'the epoch goes to a bar that is gone'

def test_a_failed_to_fast_changes_nothing(data, tmp_path, monkeypatch):
    learn = make(data, tmp_path)
    monkeypatch.setattr('cyclegan_fastai.data.memory._decode', lambda *args: 1/0)
    monkeypatch.setattr('cyclegan_fastai.data.memory._cache_file', lambda *args: None)
    n = len(learn.cbs)
    with pytest.raises(ZeroDivisionError): learn.to_fast(bf16=True, compiled=True)
    assert not any(learn.fast_path.values()) and len(learn.cbs)==n
