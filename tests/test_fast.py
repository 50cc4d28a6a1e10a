"The fast path computes what the plain one does: weight by weight in 32 bits, within two in a hundred in 16; and it fails softly"
import random
from copy import deepcopy

import numpy as np, pytest, torch
from fastai.learner import Callback
from fastai.torch_core import set_seed
from torch import nn
from test_equality import LR, N, distance, make, reference

from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.game.fast import CompileNets, HalfPrecision, has_bf16
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.data.memory import MemoryDL
from cyclegan_fastai.run.experiment import run_experiment
from cyclegan_fastai.run.recipe import Recipe, load_recipe
from cyclegan_fastai.data.seasons import seasons


def data(n, dtype=torch.float32):
    torch.manual_seed(1)
    return [tuple(torch.rand(2, 2, 3, 32, 32, dtype=dtype)*2-1) for _ in range(n)]


def four(game): return [game.generator_a2b, game.generator_b2a, game.critic_a, game.critic_b]


def cancelled(net):
    "Names of biases that the instance norm after them takes away: their gradient is 0, plus noise that Adam makes large"
    convs = (nn.Conv2d, nn.ConvTranspose2d)
    layers = [(k, m) for k,m in net.named_modules() if isinstance(m, (*convs, nn.InstanceNorm2d))]
    return {f'{k}.bias' for (k,m),(_,after) in zip(layers, layers[1:]) if isinstance(m, convs) and isinstance(after, nn.InstanceNorm2d)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return seasons(n_train=16, n_test=4, size=32, path=tmp_path_factory.mktemp('fast')/'seasons')


@pytest.mark.parametrize('lambda_identity', [5., 0.])
@pytest.mark.parametrize('form', ['least_squares', 'cross_entropy'])
def test_equals_two_adams_in_64_bits(form, lambda_identity):
    "Where noise is small, all weights are equal, the biases that norms cancel among them"
    batches = data(N//4, torch.float64)
    learn = make(batches, adversarial=form, lambda_identity=lambda_identity, pool_size=6)
    learn.model.double()
    learn.to_fast(bf16=False, compiled=False)
    assert learn.fast_path['joined'] and learn.fast_path['fused']
    nets = deepcopy(four(learn.model))
    start = deepcopy(nets)
    random.seed(7)
    with learn.no_bar(), learn.no_logging(): learn.fit_flat_lin(2, 2)
    random.seed(7)
    lrs = [LR*f for f in (1, 1, 2/3, 1/3) for _ in range(N//4)]
    reference(nets, batches*4, lrs, form, lambda_identity, 6)
    assert distance(nets, learn.model) <= 1e-9
    assert distance(start, learn.model) > 1e-4, 'nothing was trained'


def test_equals_two_adams_in_32_bits():
    "Two steps; later the noise of 32 bits, which another order of sums makes another one, has grown beyond any bound"
    batches = data(2)
    learn = make(batches, pool_size=6).to_fast(bf16=False, compiled=False)
    nets = deepcopy(four(learn.model))
    random.seed(7)
    with learn.no_bar(), learn.no_logging(): learn.fit_flat_lin(1, 0)
    random.seed(7)
    reference(nets, batches, [LR]*2, 'least_squares', 5., 6)
    left_out = total = 0
    for ours,theirs in zip(four(learn.model), nets):
        dead = cancelled(ours)
        for (k,p),q in zip(ours.named_parameters(), theirs.parameters()):
            total += p.numel()
            if k in dead: left_out += p.numel()
            else: assert (p-q).abs().max() <= LR/40, k                                 # of two steps; which sums a processor joins is its own affair
    assert 0 < left_out/total < .01


@pytest.mark.skipif(not has_bf16('cpu'), reason='this processor has no bfloat16')
def test_half_precision_stays_near(folder):
    "200 steps with the same weights and batches: the curves of the loss are within 2 % of one another"
    def curve(bf16):
        set_seed(3)
        dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=4, device='cpu')
        learn = cyclegan_learner(dls, n_blocks=2, nf=8).to_fast(bf16=bf16, compiled=False)
        set_seed(7)
        with learn.no_bar(), learn.no_logging(): learn.fit_flat_lin(50, 0)
        losses = torch.tensor(learn.recorder.losses)                                    # smooth ones, of the last fit
        assert len(losses)==200
        return losses.numpy()
    plain, half = curve(False), curve(True)
    assert plain[-1] < .8*plain[0] and not np.array_equal(plain, half)
    assert np.abs(half/plain-1).max() < .02


class Count(Callback):
    order = 1000                                                                        # after all others
    def before_fit(self): self.batches = 0
    def after_batch(self): self.batches += 1


@pytest.mark.parametrize('fast', [True, False])
def test_nothing_asks_the_device(fast, monkeypatch):
    "Tensors on the device `meta` have no numbers: whoever asks for one fails. At the epoch's end all may ask"
    batches = [tuple(torch.empty(2, 2, 3, 32, 32, device='meta')) for _ in range(4)]
    monkeypatch.setattr('cyclegan_fastai.game.learner.check_images', lambda dls: None)                # it asks for their range
    learn = make(batches, pool_size=3)
    if fast: learn.to_fast(bf16=False, compiled=False)
    learn.model.to('meta')
    learn.opt_func = lambda params, lr: make_adam(params, lr)
    count = Count()
    with pytest.raises((NotImplementedError, RuntimeError)), learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=count)
    assert count.batches==(4 if fast else 0)

def make_adam(params, lr):
    from cyclegan_fastai.game.training import gan_adam
    return gan_adam(params, lr=lr, foreach=False)


def test_a_norm_that_mixes_images_is_not_joined():
    assert not make(data(1), norm=nn.BatchNorm2d).to_fast().fast_path['joined']


def test_generators_may_rest(folder):
    dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=4, device='cpu')
    learn = cyclegan_learner(dls, n_blocks=1, nf=4, n_critic=2).to_fast()
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert np.isfinite([v for v in learn.loss_terms.history[0].values() if isinstance(v, float)]).all()


def test_goes_on_exactly(folder, tmp_path):
    "Three epochs at once, or two, a file, and one more"
    def learner():
        set_seed(3)
        dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=4, device='cpu')
        return cyclegan_learner(dls, n_blocks=1, nf=4, ema=.9, path=tmp_path, model_dir='.').to_fast()
    whole = learner()
    assert whole.fast_path['memory'] and isinstance(whole.dls.train, MemoryDL)
    with whole.no_bar(), whole.no_logging(): whole.fit_flat_lin(2, 1)
    class Stop(Callback):
        def after_batch(self):
            if self.training and self.epoch==1 and self.iter==1: self.learn.save('mid'); raise KeyboardInterrupt
    Stop.order = 200
    first = learner()
    with pytest.raises(KeyboardInterrupt), first.no_bar(), first.no_logging(): first.fit_flat_lin(2, 1, cbs=Stop())
    then = learner().load('mid')
    with then.no_bar(), then.no_logging(): then.fit_flat_lin(2, 1, start_epoch=then.epochs_done)
    for p,q in zip(whole.model.parameters(), then.model.parameters()): assert torch.equal(p, q)


def test_compiled_walks_the_same_way(folder):
    "The networks of one block, compiled for the CPU: the same terms, nothing compiled left in what is saved"
    def terms(compile):
        set_seed(3)
        dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=8, device='cpu', aug_tfms=[])
        learn = cyclegan_learner(dls, n_blocks=1, nf=4).to_fast(bf16=False, compiled=compile)
        with learn.no_bar(), learn.no_logging(): learn.fit(2)
        return learn
    plain, compiled = terms(False), terms(True)
    if compiled.fast_path['problem']: pytest.skip('no compiler: ' + compiled.fast_path['problem'])
    assert compiled.fast_path['compiled']
    assert all(o._compiled_call_impl is None for o in compiled.model.children()), 'validation and saving see plain networks'
    for k,v in plain.loss_terms.history[-1].items(): assert compiled.loss_terms.history[-1][k]==pytest.approx(v, rel=1e-2), k
    assert compiled.model.state_dict().keys()==plain.model.state_dict().keys()


def test_a_failing_compiler_kills_nothing(folder):
    from torch._inductor import config
    dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=4, device='cpu')
    learn = cyclegan_learner(dls, n_blocks=1, nf=5).to_fast(compiled=True)
    with config.patch({'cpp.cxx': ('no-such-compiler',), 'force_disable_caches': True}), learn.no_bar(), learn.no_logging(): learn.fit(2)
    assert learn.fast_path['problem'] and not learn.fast_path['compiled'] and len(learn.loss_terms.history)==2
    assert all(o._compiled_call_impl is None for o in learn.model.children())


def test_a_run_is_fast_and_goes_on(folder, tmp_path):
    "Checkpoints come by the clock, but at every tenth of the run and at its end, too; what is on is in the record"
    recipe = Recipe(data=str(folder), size=32, epochs=13, decay_epochs=12, bs=8, blocks=0, width=4, fast=True)
    saved = []
    class Saves(Callback):
        order = 200                                                                     # after `KeepRun`
        def after_epoch(self):
            if (at := (tmp_path/'run'/'last.pth')).exists() and (t := at.stat().st_mtime_ns) not in saved: saved.append(t)
    res = run_experiment(recipe, tmp_path/'run', device='cpu', cbs=Saves())
    assert 10 <= len(saved) < 20 and res['fast']['memory'] and res['fast']['joined']
    assert load_recipe(tmp_path/'run')==recipe and (tmp_path/'run'/'model.safetensors').exists()
    again = run_experiment(recipe, tmp_path/'run', resume=True, device='cpu')
    assert again['history']==res['history']


def test_what_is_on_is_said():
    learn = make(data(1))
    assert not any(learn.fast_path.values())
    with pytest.raises(ValueError, match="`mode` must be 'default'"): learn.to_fast(compiled='hard')
    with pytest.raises(ValueError, match="`mode` must be 'default'"): CompileNets('hard')
    learn.to_fast(bf16=False)
    assert {k for k,v in learn.fast_path.items() if v}=={'joined', 'fused'}
    assert not has_bf16('mps') and HalfPrecision().name=='mixed_precision'
