"Games other than CycleGAN, by the same trainer: held against plain loops, with pools, pictures, checkpoints; and their data"
import gzip, hashlib, random, struct
from copy import deepcopy

import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from cyclegan_fastai.all import *

SIZE, N, BS = 8, 12, 4

@pytest.fixture
def digits():
    x,y = small_digits()
    return x[:N*BS],y[:N*BS]

class Conditional(GAN):
    "The critic sees image and label"
    shown = {'': ('fake_seen','real_seen')}
    def forward(self, real, label):
        play,maps = super().forward(real, label),F.one_hot(label, 10)[:,:,None,None].expand(-1, -1, SIZE, SIZE)
        return {**play, **{f'{o}_seen': torch.cat([play[o], maps], 1) for o in ('real','fake')}}

def networks(n_in=20, c_in=1, norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    return dcgan_generator(SIZE, n_in=n_in, nf=16), dcgan_critic(SIZE, c_in, nf=8, norm=norm)

def gan_learner(data, game, **kwargs):
    torch.manual_seed(1)
    return game_learner(tensor_dls(data, [o[:8] for o in data], bs=BS, device='cpu'), game, **{**dict(lr=1e-3, pool_size=0), **kwargs})

def quietly(learn, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit(*args, **kwargs)
    return learn

def distance(a, b): return max((p-q).abs().max().item() for p,q in zip(a.parameters(), b.parameters()))

def as_published(form, fake, real=None):
    "Eq. 1 of Goodfellow et al. in probabilities, and its non-saturating variant"
    D = torch.sigmoid
    if real is not None: return -(torch.log(D(real)).mean() + torch.log(1-D(fake)).mean())
    return torch.log(1-D(fake)).mean() if form=='minimax' else -torch.log(D(fake)).mean()

@pytest.mark.parametrize('form', ['minimax', 'cross_entropy', 'wasserstein'])
def test_a_gan_equals_a_plain_loop(digits, form):
    "Fakes before anyone moves; the generator's step with a constant critic; the critic's on detached fakes; two Adams"
    x,_ = digits
    norm = None if form=='wasserstein' else nn.BatchNorm2d
    nets = networks(norm=norm)
    if form=='wasserstein': spectral(nets[1])
    generator,critic = deepcopy(nets)
    codes = torch.randn(N, BS, 20)
    game = GAN(*nets, n_noise=20, adversarial=form)
    game.code = lambda n, label=None, it=iter([*codes, *codes]): next(it)[:n]
    learn = gan_learner((x,), game)
    learn.dls = DataLoaders(*(DataLoader([(o,) for o in x.split(BS)][:n], bs=None) for n in (N,1)))
    quietly(learn, 1)

    adams = [torch.optim.Adam(o.parameters(), 1e-3, betas=(.5,.999)) for o in (generator,critic)]
    pay = (lambda fake, real=None: -fake.mean() if real is None else fake.mean()-real.mean()) if form=='wasserstein' else partial(as_published, form)
    for real,code in zip(x.split(BS), codes):
        fake = generator(code)
        for o in adams: o.zero_grad()
        pay(critic(fake)).backward()
        critic.zero_grad()
        adams[0].step()
        real_scores = critic(real)
        pay(critic(fake.detach()), real_scores).backward()
        adams[1].step()
    assert distance(generator, learn.model.generator)<1e-6 and distance(critic, learn.model.critic)<1e-6
    assert distance(generator, networks(norm=norm)[0])>1e-3, 'nothing was trained'

def test_minimax_saturates_where_its_variant_pulls():
    s = torch.tensor([-12.,0.,12.], requires_grad=True)
    slopes = {k: torch.autograd.grad(sum(generator_loss(o, k) for o in s), s)[0] for k in ('minimax','cross_entropy')}
    torch.testing.assert_close(slopes['minimax'], -torch.sigmoid(s.detach()))
    torch.testing.assert_close(slopes['cross_entropy'], torch.sigmoid(s.detach())-1)

def test_a_pooled_fake_keeps_its_label(digits):
    "Label by label the fakes are far apart; every fake that the critic is shown must stand beside its own"
    x,y = digits
    class Paint(nn.Module):
        "Makes of label k an image of k/10 everywhere"
        def __init__(self): super().__init__(); self.scale = nn.Parameter(torch.ones(()))
        def forward(self, code): return (self.scale*code[:,-10:].argmax(1)/10)[:,None,None,None].expand(-1, 1, SIZE, SIZE)
    game,seen = Conditional(Paint(), networks(c_in=11)[1], n_noise=2, n_classes=10),[]
    class Keep(Callback):
        order = AlternatingTrainer.order+1
        def after_pred(self):
            if self.training: seen.append(self.learn.pred['pooled']['fake_seen'])
    learn = quietly(gan_learner((x,y), game, lr=[0.,1e-3], pool_size=10), 6, cbs=Keep())
    shown = torch.cat(seen)
    torch.testing.assert_close(shown[:,0,0,0], shown[:,1:,0,0].argmax(1)/10)
    assert len(learn.alternating_trainer.pool_seen)==10
    labels = torch.cat([o[:,1:,0,0].argmax(1) for o in seen[-1:]])
    assert len(shown)==6*N*BS and len(labels.unique())>1

def test_pix2pix_pays_for_the_pair(digits):
    "A critic that sees pairs tells right ones from wrong ones, which no look at the images alone could"
    a = torch.rand(64, 1, 16, 16)*2-1
    class Shuffled(nn.Module):
        "An image of B, but never the one that belongs to this source"
        def __init__(self): super().__init__(); self.one = nn.Parameter(torch.ones(()))
        def forward(self, x): return -x.roll(1, 0)*self.one
    game = Pix2Pix(Shuffled(), patch_critic(8, n_layers=1, c_in=2))
    learn = gan_learner((a,-a), game, lr=[0.,2e-3])
    quietly(learn, 8)
    real,fake = learn.model.scores['a2b']
    assert (real>0).float().mean()>.9 and (fake<0).float().mean()>.9

def test_goes_on_exactly(digits, tmp_path):
    make = lambda: gan_learner(digits, Conditional(*networks(30, 11), n_noise=20, n_classes=10), pool_size=6, ema=.9, path=tmp_path)
    whole = make()
    quietly(whole, 2); whole.save('half'); quietly(whole, 2)
    again = make().load('half')
    quietly(again, 2)
    assert distance(whole.model, again.model)==0
    for k,pool in whole.alternating_trainer.pools.items():
        torch.testing.assert_close(torch.stack(pool.images), torch.stack(again.alternating_trainer.pools[k].images), rtol=0, atol=0)

def test_pictures_alarms_and_export(digits, tmp_path):
    "What the learner of a CycleGAN has, that of any game has"
    learn = gan_learner(digits, Conditional(*networks(30, 11), n_noise=20, n_classes=10), path=tmp_path, cbs=[ShowSamples(folder=tmp_path/'samples'), Alarms(n=8)])
    quietly(learn, 2)
    files = list((tmp_path/'samples').glob('*.png'))
    assert len(files)==3 and Image.open(files[0]).width>8*64             # eight columns
    assert [o.get_title() for o in plot_losses(learn.loss_terms).axes][:2]==['adversarial','critic']
    with learn.evaluating() as game:
        torch.manual_seed(5)
        made = game.sample(4, 7)
    learn.export('game.pkl')
    game = load_learner(tmp_path/'game.pkl').model.eval()
    torch.manual_seed(5)
    torch.testing.assert_close(game.sample(4, torch.full((4,), 7)), made)

def test_labels_where_they_belong(digits):
    x,y = digits
    with pytest.raises(ValueError, match='needs labels'): GAN(*networks(30), n_noise=20, n_classes=10).sample(3)
    with pytest.raises(ValueError, match='takes no labels'): GAN(*networks(), n_noise=20).sample(3, 1)
    with pytest.raises(ValueError, match='must be one of'): GAN(*networks(), adversarial='lsgan')

@pytest.mark.parametrize('size', [4, 5, 7, 9, 28, 33, 64, 100])
def test_dcgan_of_any_size(size):
    sizes = halvings(size)
    assert sizes[0]==size and sizes[-1]<=4 and all(b==(a+1)//2 for a,b in zip(sizes, sizes[1:]))
    generator,critic = dcgan_generator(size, 3, 10, nf=32),dcgan_critic(size, 3, nf=2, n_out=4)
    shapes = [o.shape[-1] for o in _through(critic, torch.zeros(2, 3, size, size)) if o.ndim==4]
    assert [*dict.fromkeys([size, *shapes])]==[*dict.fromkeys([*sizes, 1])]             # the critic passes through the same sizes
    assert generator(torch.randn(2, 10)).shape==(2, 3, size, size)

def _through(net, x):
    for m in net: x = m(x); yield x

# Data

def mnist_files(images, labels):
    "What the official files hold, zipped"
    parts = ('train', 't10k')
    return {f'{p}-{k}.gz': gzip.compress(o) for p in parts for k,o in {
        'images-idx3-ubyte': struct.pack('>IIII', 2051, len(images), 28, 28) + images.tobytes(),
        'labels-idx1-ubyte': struct.pack('>II', 2049, len(labels)) + labels.tobytes()}.items()}

@pytest.fixture
def mnist_server(tmp_path, serve, monkeypatch):
    "torchvision's downloads, checksums and all, from here"
    from torchvision.datasets import MNIST
    images,labels = np.random.randint(0, 256, (20,28,28), dtype=np.uint8),np.arange(20, dtype=np.uint8)%10
    (tmp_path/'web').mkdir()
    files = mnist_files(images, labels)
    for k,o in files.items(): (tmp_path/'web'/k).write_bytes(o)
    monkeypatch.setattr(MNIST, 'mirrors', [serve(tmp_path/'web')+'/'])
    monkeypatch.setattr(MNIST, 'resources', [(k, hashlib.md5(files[k]).hexdigest()) for k,_ in MNIST.resources])
    return tmp_path/'web',images,labels

def test_mnist_is_fetched_once(tmp_path, mnist_server):
    web,images,labels = mnist_server
    x,y = mnist(root=tmp_path/'data')
    torch.testing.assert_close(((x+1)*127.5)[:,0].numpy(), images.astype(np.float32), atol=1e-3, rtol=0)
    assert x.shape==(20,1,28,28) and x.dtype==torch.float32 and y.tolist()==labels.tolist()
    for o in web.iterdir(): o.unlink()
    assert len(mnist(7, root=tmp_path/'data')[0])==7

def test_a_damaged_mnist_is_refused(tmp_path, mnist_server):
    (mnist_server[0]/'train-images-idx3-ubyte.gz').write_bytes(b'<html>sign in</html>')
    with pytest.raises(ConnectionError, match='`small_digits` needs no download(.|\n)*By hand'): mnist(root=tmp_path/'data')

def test_pairs_are_pairs(tmp_path):
    "However the files are sorted, each image meets its own"
    for side in 'AB':
        (tmp_path/side).mkdir()
        for i in (1,2,10,11): Image.new('RGB', (30,20), (i*10, 0, 200*(side=='B'))).save(tmp_path/side/f'{i}_{side}.png')
    a,b = paired_images(tmp_path/'A', tmp_path/'B', 16)
    torch.testing.assert_close(a[:,0], b[:,0])
    assert a.shape==(4,3,16,16) and len(a[:,0].unique())==4 and (b[:,2]>a[:,2]).all()
    (tmp_path/'B'/'2_B.png').unlink()
    with pytest.raises(ValueError, match="1 are in one only, such as '2'"): paired_images(tmp_path/'A', tmp_path/'B', 16)

def test_the_judge_of_digits():
    x,y = small_digits()
    order = torch.randperm(len(x))
    x,y = x[order],y[order]
    state = torch.get_rng_state(),random.getstate()
    clf = digit_classifier(x, y, n_epochs=3)
    assert torch.equal(state[0], torch.get_rng_state()) and state[1]==random.getstate()
    right = (clf.digits(x[-179:])==y[-179:]).float().mean().item()
    assert clf.accuracy==pytest.approx(right, abs=.01) and right>.9
    assert clf.modes(x)==10 and clf.modes(x[(y==3) | (y==8)][:60], least=.1)==2
    real,other,threes = clf.kid(x[:600], x[600:1200]),clf.kid(x[:600].flip(-1), x[600:1200]),clf.kid(x[y==3], x[600:1200])
    assert abs(real.value)<50<other.value and real<threes
