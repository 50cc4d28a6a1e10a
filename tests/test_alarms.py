"Alarms and the guard: each fires in a run that provokes it, none in a healthy one; what they say, keep and leave alone"
import inspect, re, shutil, warnings
from functools import lru_cache, partial
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
import torch.nn.functional as F
from PIL import Image
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.training import GradientAccumulation
from fastai.data.all import DataLoader, DataLoaders
from fastai.learner import Callback, CancelFitException, Learner, load_learner
from fastai.torch_core import set_seed
from fastai.vision.augment import Flip
from torch import nn
from cyclegan_fastai.watch.alarms import (Alarms, Look, collapse, copying, critic_lags, critic_overpowers, hidden_code, inversion,
                                    oscillation, spread, thumb)
from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.game.game import CycleGAN, Game, frozen
from cyclegan_fastai.game.gamelearner import game_learner, random_state
from cyclegan_fastai.game.guard import StopOnNonFinite
from cyclegan_fastai.game.learner import CycleGANLearner, cyclegan_learner
from cyclegan_fastai.nets.losses import generator_loss
from cyclegan_fastai.nets.models import init_gan, patch_critic, resnet_generator
from cyclegan_fastai.watch.monitor import CriticAccuracy
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.game.averages import GeneratorEMA
from cyclegan_fastai.game.training import AlternatingTrainer

# The runs: those of the lesson "When training fails"

def convs(ks=3, std=.05, nf=16, norm=nn.InstanceNorm2d):
    conv = lambda i,o,ks: nn.Conv2d(i, o, ks, padding=ks//2, padding_mode='reflect')
    return init_gan(nn.Sequential(conv(3,nf,ks), norm(nf), nn.ReLU(True), conv(nf,nf,ks), norm(nf), nn.ReLU(True), conv(nf,3,1)), std)

class Residual(nn.Module):
    def __init__(self, net, sign=1):
        super().__init__()
        self.net,self.sign = net,sign
    def forward(self, x): return (self.sign*x + self.net(x)).clamp(-1,1)

def grey(x): return (x*torch.tensor([.299,.587,.114])[:,None,None]).sum(1, keepdim=True).expand_as(x)

class Grey(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, x): return grey(x) + .02*self.net(x).tanh()

class NoisyCycle(CycleGAN):
    def forward(self, real_a, real_b):
        play = CycleGAN.forward(self, real_a, real_b)
        if self.training: play['cycled_a'] = self.generator_b2a(play['fake_b'] + .1*torch.randn_like(play['fake_b']))
        return play

def residual(sign=1): return [Residual(convs(), sign) for _ in 'ab']
def resnet(**kwargs): return [init_gan(resnet_generator(1, 8, **kwargs)) for _ in 'ab']
def hiding(): return [Grey(convs(1, .1)), Residual(convs(1, .1))]

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(32, 16, 32, 42, tmp_path_factory.mktemp('data')/'seasons')

@pytest.fixture(scope='module')
def greys(data, tmp_path_factory):
    "Summers in colour, and other summers in grey"
    folder = tmp_path_factory.mktemp('greys')
    other = seasons(32, 16, 32, 43, folder/'other')
    for split in ('train','test'):
        for k,source,mode in (('A', data, 'RGB'), ('B', other, 'L')):
            (folder/f'{split}{k}').mkdir()
            for f in (source/f'{split}A').iterdir(): Image.open(f).convert(mode).convert('RGB').save(folder/f'{split}{k}'/f.name)
    shutil.rmtree(other)
    return folder

def loaders(path, **kwargs): return UnpairedDataLoaders.from_folder(path, 32, load=32, bs=4, aug_tfms=[Flip(p=.5)], device='cpu', **kwargs)

def quiet(learn):
    "Neither bar nor table; alarms are printed"
    learn.logger = lambda *args: None
    return learn.remove_cb(learn.progress)

@pytest.fixture(scope='module')
def runs(data, greys, tmp_path_factory):
    "Name → a run with alarms, trained when first asked for"
    folder = tmp_path_factory.mktemp('runs')
    def train(make=residual, seed=0, lr=[6e-3,1e-3], lambda_cycle=1., lambda_identity=0., game=CycleGAN, adversarial='least_squares',
              ema=.99, path=data, epochs=(6,2), **kwargs):
        set_seed(seed)
        dls = loaders(path, domains=None if path==greys else ('summer','winter'))
        players = game(*make(), *(init_gan(patch_critic(8)) for _ in 'ab'), adversarial=adversarial,
                       lambda_cycle=lambda_cycle, lambda_identity=lambda_identity)
        learn = quiet(game_learner(dls, players, lr=lr, ema=ema, cbs=Alarms(), cls=CycleGANLearner, path=folder, **kwargs))
        learn.fit_flat_lin(*epochs)
        return learn
    slow = dict(make=resnet, lambda_cycle=10., lambda_identity=5.)
    greedy = dict(lr=[2e-2,1e-3], pool_size=0, ema=None)
    negative = dict(make=partial(residual, sign=-1), lambda_cycle=10.)
    hide = dict(make=hiding, path=greys, lambda_cycle=10., lr=4e-3, epochs=(10,2))
    args = dict(healthy={}, resnet=dict(slow, lr=1e-3), coin=dict(lr=[6e-3,1e-6]),
        critic_overpowers=dict(lr=[1e-4,4e-3]), critic_lags=dict(slow, lr=[1e-3,1e-6]),
        collapse=dict(greedy, make=partial(resnet, norm=nn.Identity), lambda_cycle=0.),
        collapse_cured=dict(greedy, make=resnet, lambda_cycle=10., lambda_identity=20.),
        oscillation=dict(slow, adversarial='wasserstein', lr=1e-2, ema=None, epochs=(8,0)),
        copying=dict(lambda_cycle=10., lambda_identity=100.), inversion=negative, inversion_cured=dict(negative, lambda_identity=40.),
        hidden_code=hide, hidden_code_cured=dict(hide, game=NoisyCycle))
    return lru_cache(None)(lambda name: train(**args[name]))

def rang(learn): return {re.sub('_[ab]2[ab]$', '', k) for row in learn.loss_terms.history for k in row.get('alarms', {})}
def figures(learn, check): return pd.DataFrame(learn.alarms.figures).filter(like=check.__name__)
def limit(check): return inspect.signature(check).parameters['limit'].default

HIGH = critic_overpowers, oscillation, hidden_code          # bad above the limit, the others below
CHECKS = critic_overpowers, critic_lags, collapse, oscillation, copying, inversion, hidden_code
CURES = {critic_overpowers: 'healthy', critic_lags: 'resnet', oscillation: 'resnet', copying: 'healthy'}
each = pytest.mark.parametrize('check', CHECKS, ids=lambda o: o.__name__)

# Provoked, cured, healthy

@each
def test_fires_where_provoked_and_not_where_cured(runs, check):
    broken,cured = runs(check.__name__),runs(CURES.get(check, f'{check.__name__}_cured'))
    assert check.__name__ in rang(broken)
    assert check.__name__ not in rang(cured)
    held = lambda learn: (figures(learn, check).rolling(3).min().max().max() if check in HIGH else figures(learn, check).rolling(3).max().min().min())
    between = sorted([held(broken), held(cured)])
    assert between[0] < limit(check) < between[1]

@pytest.mark.parametrize('name', ['healthy', 'resnet'])
def test_silent_in_a_sound_run(runs, name):
    assert not rang(runs(name)) and not runs(name).alarms.active

def test_a_useless_critic_at_one_half_is_not_told_from_equilibrium(runs):
    assert not rang(runs('coin'))
    assert figures(runs('coin'), critic_lags).stack().between(.4, .6).all()

def test_words_say_figure_place_limit_and_what_to_do(runs):
    words = runs('copying').alarms.active['copying_a2b']
    assert re.match(r'an image is changed by 0\.0\d of the distance between the domains \(alarm from 0.1\)', words)
    assert '`lambda_identity`' in words
    assert '`lr=[' in runs('critic_overpowers').alarms.active['critic_overpowers_b2a']

# The checks alone

def look(before=(), accuracy=1., back=nn.Identity(), **play):
    "A `Look` at given images, by a CycleGAN whose way back is `back`"
    game = CycleGAN(nn.Identity(), back, nn.Identity(), nn.Identity())
    play = {'real_a': play['real_a'], 'real_b': play['real_b'], 'fake_b': play['fake_b'], 'fake_a': play.get('fake_a', play['real_a'])}
    history = [{f'train_accuracy_{o}_{d}': accuracy for o in ('real','fake') for d in ('a2b','b2a')}]
    return Look(game, {**play, 'cycled_a': back(play['fake_b'])}, history, before)

def figure(check, look): return {d: (v,bad) for d,v,bad,_ in check(look)}['a2b']
def images(n=8, seed=0): return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))*2-1
def smooth(n=8, seed=0): return F.interpolate(images(n, seed)[..., :4,:4], size=32, mode='bilinear')

def test_spread():
    x = smooth()
    assert spread(x[:1].expand_as(x))==0
    assert spread(torch.cat([x,x]), torch.cat([x,x]))==pytest.approx(spread(x), rel=1e-5) # a repeated image adds nothing
    assert spread(torch.cat([x,x])) < spread(x)
    assert np.isnan(spread(x[:3]))

def test_inversion_is_about_brightness():
    x = smooth()
    assert figure(inversion, look(real_a=x, real_b=smooth(seed=1), fake_b=-x)) == (pytest.approx(-1, abs=1e-3), True)
    assert figure(inversion, look(real_a=x, real_b=smooth(seed=1), fake_b=x*.5+.3)) == (pytest.approx(1, abs=1e-3), False)

def test_copying_asks_the_critic():
    x,y = smooth(),smooth(seed=1)
    assert figure(copying, look(real_a=x, real_b=y, fake_b=x)) == (0, True)
    assert figure(copying, look(real_a=x, real_b=y, fake_b=x, accuracy=.5)) == (0, False) # domains that nobody can tell apart
    assert not figure(copying, look(real_a=x, real_b=y, fake_b=y))[1]

def test_an_honest_way_back_passes_noise_on_and_a_decoder_magnifies_it():
    class Decoder(nn.Module):
        def forward(self, x): return x + 20*(x-x.mul(10).round().div(10))
    x,y = smooth(),smooth(seed=1)
    v,bad = figure(hidden_code, look(real_a=x*.8, real_b=y, fake_b=x*.8))
    assert .9<v<1.01 and not bad
    x = x.mul(8).round().div(10)                                     # what the decoder reads lies between the steps
    v,bad = figure(hidden_code, look(real_a=x, real_b=y, fake_b=x, back=Decoder()))
    assert v>5 and bad

def test_oscillation_is_way_without_distance():
    x,y = smooth(),smooth(seed=1)
    at = lambda p: {'a2b': thumb(x+p*(y-x)), 'b2a': thumb(x)}
    steps = lambda *ps: figure(oscillation, look(real_a=x, real_b=y, fake_b=x+ps[-1]*(y-x), before=[at(p) for p in ps[:-1]]))
    assert steps(0,1,2,3,4)[0]==pytest.approx(0, abs=1e-4)           # straight on, however fast
    assert steps(1,1,1,1,1)==(0,False)
    v,bad = steps(0,1,0,1,0)
    assert v==pytest.approx((y-x).pow(2).mean((1,2,3)).sqrt().mean().item()/spread(y), rel=.2) and bad
    assert not list(oscillation(look(real_a=x, real_b=y, fake_b=x, before=[at(0)]*3))) # too early to say

# The callback

def pairs(n=8, bs=4, seed=3):
    "Loaders of tensors in order, without a folder"
    a,b = torch.rand(2, n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))*2-1
    dls = DataLoaders(*(DataLoader(list(zip(a, b)), bs=bs) for _ in range(2)), device=torch.device('cpu'))
    dls.n_inp = 2
    return dls

def make(cbs, folder='.', dls=None, seed=0, **kwargs):
    "A very small learner; `dls` may be a folder"
    set_seed(seed)
    dls = loaders(dls) if isinstance(dls, Path) else dls or pairs()
    return quiet(cyclegan_learner(dls, **{**dict(n_blocks=0, nf=4, ema=.9, path=folder, cbs=cbs), **kwargs}))

def scripted(*bad):
    "A check that is raised in the epochs `bad`"
    def script(look):
        epoch = look.history[-1]['epoch']
        yield 'a2b', float(epoch), epoch in bad, f'bad in epoch {epoch}'
    return script

def test_says_it_once_and_again_only_after_it_had_gone(capsys):
    learn = make(Alarms(checks=[scripted(0, 2,3,4, 7,8)], patience=2))
    learn.fit(10)
    assert re.findall('Alarm in epoch (.*)\n', capsys.readouterr().out)==['3: script a2b: bad in epoch 3.', '8: script a2b: bad in epoch 8.']
    ringing = [i for i,row in enumerate(learn.loss_terms.history) if row.get('alarms')]
    assert ringing==[3,4,5, 8,9]                                   # until two looks in a row were good
    assert learn.loss_terms.history[4]['alarms']=={'script_a2b': 'bad in epoch 3'}
    assert [row['script_a2b'] for row in learn.alarms.figures]==list(range(10))

def test_looks_every_so_many_epochs_and_is_quiet_when_told(capsys):
    learn = make(Alarms(every=3, checks=[scripted(*range(10))], patience=2))
    with learn.no_logging(): learn.fit(7)
    assert [row['epoch'] for row in learn.alarms.figures]==[2,5]
    assert learn.alarms.active and not capsys.readouterr().out

def test_stop(tmp_path):
    learn = make(Alarms(checks=[scripted(*range(1,9))], patience=2, stop=True), tmp_path)
    learn.fit(6)
    assert learn.epochs_done==len(learn.loss_terms.history)==3
    learn.fit(2)                                                     # known by now: no reason to stop again
    assert learn.epochs_done==2
    other = make(Alarms(checks=[scripted(*range(9)), partial(collapse, limit=-1)], patience=1, stop=['collapse']))
    other.fit(3)
    assert other.epochs_done==3 and other.alarms.active

def test_state_survives_saving(tmp_path, capsys):
    alarms = lambda: Alarms(checks=[scripted(*range(1,9)), oscillation], patience=2)
    whole = make(alarms(), tmp_path)
    whole.fit(6)
    part = make(alarms(), tmp_path)
    part.fit(6, cbs=StopAfter(3))
    part.save('part')
    capsys.readouterr()
    other = make(alarms(), tmp_path, seed=9).load('part')
    assert other.alarms.active==part.alarms.active=={'script_a2b': 'bad in epoch 2'}
    other.fit(6, start_epoch=other.epochs_done)
    assert not capsys.readouterr().out                              # it rings already
    assert other.alarms.figures==whole.alarms.figures and 'oscillation_a2b' in other.alarms.figures[-1]

class StopAfter(Callback):
    order = 70
    def __init__(self, n): self.n = n
    def after_epoch(self):
        if self.epoch+1==self.n: raise CancelFitException()

def state(learn): return [*learn.model.state_dict().values(), *(learn.generator_ema.averages or [])]

def test_training_is_bit_for_bit_the_same(data, tmp_path):
    ends = []
    for cbs in [], [Alarms(), StopOnNonFinite()]:
        learn = make(cbs, tmp_path, data, dropout=.3)
        learn.fit_flat_lin(2, 1)
        ends.append((state(learn), str(random_state(learn.dls.loaders)), [len(o) for o in learn.alternating_trainer.pools.values()]))
    assert all(map(torch.equal, ends[0][0], ends[1][0]))
    assert ends[0][1:]==ends[1][1:]

def test_sample_is_of_the_validation_set_and_stays_the_same(data, tmp_path):
    learn = make(Alarms(n=6), tmp_path, data)
    learn.fit(1)
    sample = [o.clone() for o in learn.alarms.sample]
    expected = learn.dls.valid.new(bs=6).one_batch()
    assert all(map(torch.equal, sample, (o.as_subclass(torch.Tensor) for o in expected)))
    learn.fit(1)
    assert all(map(torch.equal, sample, learn.alarms.sample))

def test_export_carries_no_pictures(data, tmp_path):
    learn = make([Alarms(), StopOnNonFinite()], tmp_path, data)
    learn.fit(2)
    learn.export('model.pkl')
    assert learn.alarms.sample and learn.alarms.before
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        other = load_learner(tmp_path/'model.pkl')
    assert other.alarms.sample is None and other.alarms.before==[] and other.stop_on_non_finite.good is None
    assert len(other.alarms.figures)==2

def test_looking_and_lr_find_are_no_training(tmp_path, capsys):
    learn = make([Alarms(patience=1, checks=[scripted(*range(9))]), StopOnNonFinite()], tmp_path)
    with learn.no_bar(): learn.lr_find(num_it=12, end_lr=1e30, stop_div=False, show_plot=False)
    learn.get_preds()
    assert not learn.alarms.figures and not (tmp_path/'models'/'last_good.pth').exists()
    assert 'Training stops' not in capsys.readouterr().out

def test_brings_critic_accuracy_along():
    learn = make(Alarms())
    learn.fit(1)
    assert 'train_accuracy_fake_a2b' in learn.loss_terms.history[0] and 'critic_overpowers_a2b' in learn.alarms.figures[0]
    learn.fit(1)
    assert len([o for o in learn.cbs if isinstance(o, CriticAccuracy)])==1

class Noise(Game):
    "Images from noise: no source, no cycle"
    judged = {'': ('fake','real')}
    def __init__(self):
        super().__init__(['generator'], ['critic'], dict(adversarial=1., critic=.5))
        self.generator,self.critic = nn.Conv2d(4, 3, 3, padding=1),patch_critic(4)
    def forward(self, real): return dict(real=real, fake=self.generator(torch.randn(len(real), 4, *real.shape[2:])))
    def generators_pay(self, play): return dict(adversarial=generator_loss(frozen(self.critic, play['fake'])))
    def critics_pay(self, play): return dict(critic=self.judge('', self.critic(play['real']), self.critic(play['fake'])))

def test_a_game_without_sources():
    x = smooth(8)
    dls = DataLoaders(*(DataLoader([(o,) for o in x], bs=4) for _ in range(2)), device=torch.device('cpu'))
    dls.n_inp = 1
    learn = quiet(game_learner(dls, Noise(), lr=0., cbs=Alarms()))
    learn.fit(6)
    assert set(learn.alarms.figures[-1])=={'epoch','critic_overpowers','critic_lags','collapse','oscillation'}
    assert learn.alarms.figures[-1]['oscillation']==0                # the same noise at each look

def test_what_is_not_finite_is_said():
    learn = make(Alarms(patience=1))
    learn.fit(1)
    with torch.no_grad(): learn.generator_ema.averages[0].fill_(np.nan)
    learn.fit(1)
    assert 'not_finite_fake_b' in learn.alarms.active

def test_errors():
    for kwargs,words in ((dict(n=3), '`n` of `Alarms` must be ≥ 4'), (dict(every=0), '`every`'), (dict(patience=0), '`patience`'),
                         (dict(stop=['colapse']), r"`stop` names \['colapse'\], the checks are \['critic_overpowers'")):
        with pytest.raises(ValueError, match=words): Alarms(**kwargs)
    with pytest.raises(ValueError, match='`every` of `StopOnNonFinite`'): StopOnNonFinite(every=0)
    for cb in Alarms(),StopOnNonFinite():
        with pytest.raises(TypeError, match='needs a'): Learner(pairs(), nn.Conv2d(3, 3, 1), loss_func=F.mse_loss, cbs=cb).fit(1)

# The guard

class Spoil(Callback):
    "A value that is not a number in one image of batch `at`"
    order = AlternatingTrainer.order-1
    def __init__(self, at): self.at = at
    def before_batch(self):
        if self.training and self.train_iter==self.at:
            x = self.xb[1].clone()
            x[2,0,3,3] = np.nan
            self.learn.xb = (self.xb[0], x)

class Follow(Callback):
    "All parameters before each step"
    order = GeneratorEMA.order+5
    def before_fit(self): self.steps = []
    def before_backward(self): self.steps.append([p.detach().clone() for p in self.learn.model.parameters()])

def all_finite(learn):
    opt = [v for o in learn.opt.state_dict()['state'].values() for v in o.values()]
    pools = [o for pool in learn.alternating_trainer.pools.values() for o in pool.images]
    grads = [p.grad for p in learn.model.parameters() if p.grad is not None]
    return all(o.isfinite().all() for o in [*state(learn), *opt, *pools, *grads])

@pytest.mark.parametrize('every,back', [(1,4), (3,2), (50,0)])
def test_guard_puts_the_last_good_weights_back(tmp_path, capsys, every, back):
    learn = make([StopOnNonFinite(every), follow := Follow()], tmp_path, pairs(16))
    learn.fit(3, cbs=Spoil(5))                                       # the second batch of the second epoch
    found = learn.stop_on_non_finite.found
    assert (found['epoch'], found['batch'], found['what'])==(1, 1, 'the images `real_b`')
    assert found['where']==('(`StopOnNonFinite(every=1)` would say where)' if every==50 else '(indices [2] of the batch)')
    assert all(map(torch.equal, learn.model.parameters(), follow.steps[{1:4, 3:2, 50:0}[every]]))
    assert all_finite(learn) and found['message'] in capsys.readouterr().out
    other = make([StopOnNonFinite()], tmp_path, pairs(16)).load('last_good')
    assert all(map(torch.equal, state(other), state(learn))) if every<50 else other.generator_ema.averages is None
    other.fit(3, start_epoch=other.epochs_done)
    assert other.epochs_done==3 and other.stop_on_non_finite.found is None and all_finite(other)

def test_guard_looks_before_anything_is_validated_or_saved(tmp_path):
    learn = make([StopOnNonFinite(50)], tmp_path, pairs(8))
    learn.fit(2, cbs=[Spoil(3), SaveModelCallback(every_epoch=True, fname='at')])       # the last batch of the second epoch
    assert learn.stop_on_non_finite.found['epoch']==1
    assert sorted(o.name for o in (tmp_path/'models').iterdir())==['at_0.pth','last_good.pth']
    assert 'not_finite' in learn.loss_terms.history[-1]['alarms']

@pytest.mark.parametrize('norm', [nn.InstanceNorm2d, nn.BatchNorm2d])
def test_guard_names_the_layer_and_undoes_the_step(tmp_path, norm):
    learn = make([StopOnNonFinite()], tmp_path, norm=norm)
    before = [p.detach().clone() for p in learn.model.parameters()]
    learn.fit(2, 1e20)
    found = learn.stop_on_non_finite.found
    assert re.match(r'\(first in the output of `(generator|critic)_\w+\.\d+`, \w+\)', found['where'])
    assert all(map(torch.equal, learn.model.parameters(), before))
    assert all_finite(learn)                                         # buffers of the norm too

def test_guard_names_a_spoiled_weight_and_saves_nothing(tmp_path):
    learn = make([StopOnNonFinite()], tmp_path)
    with torch.no_grad(): learn.model.critic_a[2].weight[0,0,0,0] = np.inf
    learn.fit(1)
    found = learn.stop_on_non_finite.found
    assert found['where']=='(weights of `critic_a.2.weight`)' and found['file'] is None
    assert not (tmp_path/'models'/'last_good.pth').exists()

def test_guard_names_a_network_by_its_gradients(tmp_path):
    learn = make([StopOnNonFinite()], tmp_path)
    hook = learn.model.critic_b[0].weight.register_hook(lambda g: g*np.inf)
    learn.fit(1)
    assert learn.stop_on_non_finite.found['what']=='the gradients of `critic_b`' and all_finite(learn)
    hook.remove()
    learn.fit(1)
    assert learn.stop_on_non_finite.found is None

class Scaled(Callback):
    "What `to_fp16` has on a GPU"
    def before_fit(self): self.learn.scaler = torch.amp.GradScaler('cpu')

def test_guard_leaves_infinite_gradients_to_the_scaler(tmp_path):
    learn = make([StopOnNonFinite(), Scaled()], tmp_path, pairs(4))   # one batch: nothing here skips the step, as the scaler would
    hook = learn.model.critic_b[0].weight.register_hook(lambda g: g*np.inf)
    learn.fit(1)
    assert learn.stop_on_non_finite.found is None
    hook.remove()
    learn = make([StopOnNonFinite(), Scaled()], tmp_path)
    learn.fit(1, cbs=Spoil(1))
    assert learn.stop_on_non_finite.found['batch']==1

@pytest.mark.parametrize('cb', [GradientAccumulation(4), MixedPrecision(amp_mode=AMPMode.BF16)], ids=['accumulation','mixed'])
def test_guard_beside_other_callbacks(tmp_path, cb):
    learn = make([StopOnNonFinite()], tmp_path, pairs(8, bs=2))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')                              # "CUDA is not available. Disabling"
        learn.fit(1, cbs=cb)
        assert learn.stop_on_non_finite.found is None
        learn.fit(4, 1e20, cbs=cb)
        assert 'first in the output' in learn.stop_on_non_finite.found['where']
    assert all_finite(learn)
