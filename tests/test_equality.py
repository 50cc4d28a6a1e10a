"The proof: one optimizer with two groups walks where two Adams walk, weight by weight"
import random
from copy import deepcopy

import numpy as np, pytest, torch
import torch.nn.functional as F
from fastai.callback.schedule import combined_cos
from fastai.learner import Callback, DataLoader, DataLoaders
from cyclegan_fastai.run.plain_loop import PlainCycleGAN
from cyclegan_fastai.game.game import players
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.game.pool import FakePool
from cyclegan_fastai.game.training import AlternatingTrainer

SIZE, BS, N = 32, 2, 20
LR = 2e-4


class Pool:
    "The pool of the original's recipe, one list and Python's `random`"
    def __init__(self, size): self.size,self.images = size,[]

    def query(self, images):
        if not self.size: return images
        out = []
        for image in images.split(1):
            if len(self.images)<self.size:
                self.images.append(image)
                out.append(image)
            elif random.uniform(0, 1)>.5:
                i = random.randint(0, self.size-1)
                out.append(self.images[i])
                self.images[i] = image
            else: out.append(image)
        return torch.cat(out)


def reference(nets, batches, lrs, form, lambda_identity, pool_size):
    "Plain PyTorch, in the original's order: generators with frozen critics, then critics on pooled, detached fakes"
    score = F.mse_loss if form=='least_squares' else F.binary_cross_entropy_with_logits
    plain = PlainCycleGAN(nets, lambda_identity=lambda_identity, pools=[Pool(pool_size).query for _ in 'ab'], score=score)
    for batch,lr in zip(batches, lrs):
        plain.set_lr(lr)
        plain.step(*batch)


def loaders(batches):
    dls = DataLoaders(*[DataLoader(batches, bs=None) for _ in range(2)])
    dls.n_inp = 2
    return dls


def make(batches, **kwargs):
    torch.manual_seed(0)
    kwargs = {'n_blocks': 2, 'nf': 8, 'lr': LR, **kwargs}
    return cyclegan_learner(loaders(batches), **kwargs)


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [tuple(torch.rand(2, BS, 3, SIZE, SIZE)*2-1) for _ in range(N)]


def distance(nets, game):
    "Largest difference of any parameter"
    ours = [game.generator_a2b, game.generator_b2a, game.critic_a, game.critic_b]
    return max((p-q).abs().max().item() for m,n in zip(nets, ours) for p,q in zip(m.parameters(), n.parameters()))


@pytest.mark.parametrize('form', ['least_squares', 'cross_entropy'])
@pytest.mark.parametrize('lambda_identity', [5., 0.])
@pytest.mark.parametrize('schedule,pool_size', [('flat_lin', 6), ('one_cycle', 6), ('one_cycle', 0)])
def test_equals_two_adams(batches, form, lambda_identity, schedule, pool_size):
    learn = make(batches[:N//4], adversarial=form, lambda_identity=lambda_identity, pool_size=pool_size)
    game = learn.model
    nets = deepcopy([game.generator_a2b, game.generator_b2a, game.critic_a, game.critic_b])
    start = deepcopy(nets)
    random.seed(7)
    with learn.no_bar(), learn.no_logging():
        if schedule=='flat_lin':
            learn.fit_flat_lin(2, 2)
            lrs = [LR*f for f in (1, 1, 2/3, 1/3) for _ in range(N//4)]
        else:
            learn.fit_one_cycle(4, LR)
            lrs = [combined_cos(.25, LR/25, LR, LR/1e5)(i/N) for i in range(N)]
    np.testing.assert_allclose(learn.recorder.lrs, lrs, rtol=1e-6)
    random.seed(7)
    reference(nets, batches[:N//4]*4, lrs, form, lambda_identity, pool_size)
    assert distance(nets, game) <= 1e-6
    assert distance(start, game) > 1e-4, 'nothing was trained'


@pytest.mark.parametrize('resting', ['generators', 'critics'])
def test_a_resting_player_does_not_move(batches, resting):
    learn = make(batches)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)                                                # momentum gathers
        before = [[p.clone() for p in group] for group in players(learn.model)]
        turn = ('critics',) if resting=='generators' else ('generators',)
        class Rest(Callback):
            order = AlternatingTrainer.order+1
            def before_batch(self): self.learn.model.turn = turn
        learn.fit(1, cbs=Rest())
    moved = [max((p-q).abs().max().item() for p,q in zip(*o)) for o in zip(before, players(learn.model))]
    still = 0 if resting=='generators' else 1
    assert moved[still]==0. and moved[1-still]>0


def test_n_critic(batches):
    learn = make(batches[:6], n_critic=3)
    moves = []
    class Watch(Callback):
        def before_batch(self): self.before = [p.clone() for p in players(self.learn.model)[0]]
        def after_batch(self):
            if self.training: moves.append(any(not torch.equal(p, q) for p,q in zip(self.before, players(self.learn.model)[0])))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=Watch())
    assert moves==[False, False, True]*2


def test_two_rates(batches):
    learn = make(batches[:4])
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, lr_max=slice(1e-4, 4e-4))
        lrs = np.array([o['lr'] for o in learn.opt.hypers])
        assert lrs[1]/lrs[0]==pytest.approx(4)
        learn.fit_flat_lin(1, 0, lr_max=[3e-4, 1e-4])
        assert [o['lr'] for o in learn.opt.hypers]==pytest.approx([3e-4, 1e-4])
    assert all(o['mom']==.5 for o in learn.opt.hypers), 'β1 must stay 0.5'


def test_pool_is_half_old():
    random.seed(3)
    pool = FakePool(50)
    fakes = torch.arange(4000.).view(-1, 1, 1, 1)
    shown = torch.cat([pool(o) for o in fakes.split(7)])
    old = (shown!=fakes)[50:].float().mean().item()
    assert .47<old<.53                                               # 3950 draws: 0.5 ± 0.008
    assert len(pool)==50 and (shown[:50]==fakes[:50]).all()
    age = (fakes-shown)[shown!=fakes]
    assert 80<age.mean()<120                                         # an image stays for 50/½ draws on average
