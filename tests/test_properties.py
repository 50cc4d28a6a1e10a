"What holds for all sizes, batches, pools, schedules, tiles, pictures and recipes, tried on hundreds that Hypothesis chooses"
import json, math, random, tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np, pytest, torch
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from PIL import Image
from cyclegan_fastai.all import *
from cyclegan_fastai.core.checks import check_number, check_whole
from cyclegan_fastai.core.photo import as_photo, like, open_photo, scaled, split_alpha, to_rgb
from cyclegan_fastai.use.tiles import pad_sides, sample_squares, tiles, to_net, to_pixels, translate_pixels

def tried(examples, /, **kwargs):
    "So many examples, the same ones every time"
    return lambda f: settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))(given(**kwargs)(f))

ints, fours = st.integers, lambda low,high: st.integers(low//4, high//4).map(lambda o: 4*o)
def noise(*shape, seed=0): return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

# Arguments

anything = st.one_of(ints(), ints(-9, 9), st.just(10**400), st.floats(), st.text(), st.none(), st.booleans(), st.lists(ints()), st.complex_numbers(), st.binary(), st.fractions(), st.decimals(allow_nan=True),
                     ints(-9, 9).map(np.int16), st.floats(width=32).map(np.float32), st.just(np.array([1,2])), st.just(torch.ones(2)), st.just(int))

@tried(400, value=anything, low=ints(-5, 5), more=st.none() | ints(0, 5))
def test_whole_numbers_are_whole(value, low, more):
    high = None if more is None else low+more
    try: res = check_whole('bs', value, low, high)
    except ValueError as e:
        assert str(e).startswith(f'`bs` must be a whole number ≥ {low}') and ': pass `bs=' in str(e) and '\n' not in str(e)
        assert not (type(value) is int and value>=low and (high is None or value<=high))
    else: assert type(res) is int and res==value and type(value) in (int, np.int16) and low<=res<=(math.inf if high is None else high)

@tried(400, value=anything, ends=st.sampled_from(['[]', '(]', '[)', '()']))
def test_numbers_are_finite_and_within(value, ends):
    try: res = check_number('ema', value, f'{ends[0]}0, 1{ends[1]}', .5)
    except ValueError as e:
        assert str(e).startswith('`ema` must be a number in ') and str(e).endswith('such as `ema=0.5`') and '\n' not in str(e)
        assert not (type(value) in (int, float) and 0<value<1)
    else: assert type(res) is float and math.isfinite(res) and 0<=res<=1 and not (res==0 and ends[0]=='(' or res==1 and ends[1]==')') and not isinstance(value, bool)

# Networks

@tried(25, n=ints(1, 3), h=fours(16, 60), w=fours(16, 60), n_blocks=ints(0, 2), nf=ints(1, 5), norm=st.sampled_from(['instance','batch']), up=st.sampled_from(['transposed','resize']), c=ints(1, 4))
def test_a_generator_keeps_the_size(n, h, w, n_blocks, nf, norm, up, c):
    net = resnet_generator(n_blocks, nf, c, c, norm, up=up)
    y = net(torch.rand(n, c, h, w)*2-1)
    assert y.shape==(n,c,h,w) and y.abs().max()<=1
    again = resnet_generator(**json.loads(json.dumps(net.arch)))                   # its `arch` is all there is to know, in a file, too
    again.load_state_dict(net.state_dict())

@tried(25, h=ints(24, 90), w=ints(24, 90), nf=ints(1, 4), n_layers=ints(1, 3))
def test_a_critic_judges_patches(h, w, nf, n_layers):
    side = lambda o: o//2**n_layers-2
    assume(min(side(h), side(w))>=1)
    assert patch_critic(nf, n_layers)(torch.rand(2, 3, h, w)).shape==(2, 1, side(h), side(w))

@tried(20, size=ints(4, 40), power=ints(5, 7))
def test_a_dcgan_has_any_size(size, power):
    assert dcgan_generator(size, 1, 5, 2**power)(torch.randn(2, 5)).shape==(2, 1, size, size)
    assert dcgan_critic(size, nf=2)(torch.randn(2, 1, size, size)).shape==(2, 1)

# Data

@tried(25, n_a=ints(1, 5), n_b=ints(1, 5), sides=st.lists(st.tuples(ints(1, 50), st.just(1) | ints(1, 50)), min_size=3, max_size=3), size=fours(24, 40), more=ints(0, 9), bs=ints(1, 5),
       method=st.sampled_from(['squish','crop','pad']), augment=st.booleans(), valid_pct=st.floats(0, .9), seed=ints(0, 99))
def test_batches_of_any_pictures(n_a, n_b, sides, size, more, bs, method, augment, valid_pct, seed):
    with tempfile.TemporaryDirectory() as d:
        for k,n in (('A', n_a), ('B', n_b)):
            (Path(d)/k).mkdir()
            for i in range(n): Image.fromarray(noise(*sides[i%3], 3, seed=i+9*(k=='B'))).save(Path(d)/k/f'{i}.png')
        files = find_unpaired(d, valid_pct, seed)
        pairs = max(len(files.train_a), len(files.train_b))
        make = lambda bs: UnpairedDataLoaders.from_files(files, d, bs, size=size, load=size+more, method=method, aug_tfms=None if augment else [], device='cpu')
        if bs>pairs:
            with pytest.raises(ValueError, match='pass another `bs`'): make(bs)
            bs = pairs
        dls = make(bs)
        torch.manual_seed(seed)
        batches = list(dls.train)
        assert len(batches)==len(dls.train)==pairs//bs
        for x in (x for b in batches for x in b): assert x.shape==(bs,3,size,size) and x.dtype==torch.float32 and -1<=x.min() and x.max()<=1
        n_valid = max(len(files.valid_a), len(files.valid_b))
        assert sum(len(a) for a,_ in dls.valid)==n_valid and all(a.shape==b.shape and a.shape[1:]==(3,size,size) for a,b in dls.valid)
        drawn = [divmod(o, len(dls.train.dataset)) for o in dls.train.get_idxs()]
        large,small = (0,1) if len(files.train_a)>=len(files.train_b) else (1,0)
        assert sorted(o[large] for o in drawn)==sorted((dls.train.idxs_a, dls.train.idxs_b)[large]), 'each picture of the larger domain once'
        assert {o[small] for o in drawn}<={*(dls.train.idxs_a, dls.train.idxs_b)[small]}

@tried(30, n=ints(1, 20), m=ints(0, 5), bs=ints(1, 24))
def test_batches_of_tensors(n, m, bs):
    x = torch.arange(n+m)
    if bs>n:
        with pytest.raises(ValueError, match='`bs`'): tensor_dls((x[:n],), (x[n:],), bs, device='cpu')
        return
    dls = tensor_dls((x[:n],-x[:n]), (x[n:],-x[n:]), bs, device='cpu')
    got = [o for b in dls.train for o in zip(*map(torch.Tensor.tolist, b))]
    assert len(got)==len({*got})==n//bs*bs and all(a==-b and 0<=a<n for a,b in got)
    assert [o for b in dls.valid for o in b[0].tolist()]==list(range(n, n+m))

# The pool, schedules

@tried(60, size=ints(0, 9), calls=st.lists(ints(0, 4), max_size=25), seed=ints(0, 10**6))
def test_the_pool(size, calls, seed):
    random.seed(seed)
    pool,given_,shown = FakePool(size),[],[]
    for n in calls:
        fakes = torch.arange(len(given_), len(given_)+n).float()[:,None,None,None].requires_grad_()
        if not n and size: continue                                                # no loader gives an empty batch
        given_ += fakes.flatten().tolist()
        res = pool(fakes*1)
        assert res.shape==fakes.shape and not res.requires_grad and len(pool)<=size
        shown += res.flatten().tolist()
    assert {*shown}<={*given_} and len(shown)==len(given_), 'what comes out was put in'
    assert shown[:size]==given_[:size] or not size, 'while it fills, it hands on what it gets'
    if size: assert len(pool)==min(size, len(given_)) and {float(o) for o in pool.images}<={*given_}
    again = FakePool(size)
    again.load_state_dict(pool.state_dict(), 'cpu')
    assert all(map(torch.equal, again.images, pool.images)) and len(again)==len(pool)

@tried(8, size=ints(1, 60), seed=ints(0, 10**6))
def test_half_of_what_the_pool_shows_is_old(size, seed):
    random.seed(seed)
    pool,n = FakePool(size),4000
    pool(torch.full((size,1,1,1), -1.))
    res = pool(torch.arange(n).float()[:,None,None,None]).flatten()
    old = (res!=torch.arange(n)).float().mean().item()
    assert abs(old-.5)<5*.5/n**.5, old

@tried(200, n_epochs=ints(0, 400), n_epochs_decay=ints(0, 400), steps=ints(1, 7), at=st.floats(0, 1))
def test_flat_then_linear(n_epochs, n_epochs_decay, steps, at):
    total = n_epochs+n_epochs_decay
    assume(total)
    epochs = [{flat_lin((e+s/steps)/total, n_epochs, n_epochs_decay) for s in range(steps)} for e in range(total)]
    assert all(len(o)==1 for o in epochs), 'it changes between epochs alone'
    factors = [o.pop() for o in epochs]
    assert all(0<o<=1 for o in factors) and factors==sorted(factors, reverse=True)
    assert factors[:n_epochs]==[1]*n_epochs
    drops = -np.diff([1, *factors[n_epochs:], 0])
    assert np.allclose(drops, 1/(n_epochs_decay+1))
    assert 0<flat_lin(at, n_epochs, n_epochs_decay)<=1 and flat_lin(1., n_epochs, n_epochs_decay)==factors[-1]

class Rates(Callback):
    order = Recorder.order+1
    def before_fit(self): self.seen = []
    def after_batch(self):
        if self.training: self.seen.append((self.epoch, self.opt.hypers[0]['lr'], dict(self.learn.model.weights)))

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "Data of two steps an epoch, and learners of one width on it"
    x = torch.rand(4, 3, 24, 24)*2-1
    dls = tensor_dls((x,-x), (x[:2],-x[:2]), bs=2, device='cpu')
    path = tmp_path_factory.mktemp('tiny')
    return lambda **kw: cyclegan_learner(dls, n_blocks=0, nf=1, path=path, cbs=Rates(), **kw)

@tried(6, n_epochs=ints(0, 2), n_epochs_decay=ints(0, 2), split=ints(0, 4), lr=st.floats(1e-6, 1e-2))
def test_a_fit_that_is_split_has_the_same_rates(tiny, n_epochs, n_epochs_decay, split, lr):
    total = n_epochs+n_epochs_decay
    assume(total)
    split = min(split, total-1)
    def rates(**kw):
        learn = tiny(lr=lr)
        with learn.no_bar(), learn.no_logging(): learn.fit_flat_lin(n_epochs, n_epochs_decay, **kw)
        return [(e,lr) for e,lr,_ in learn.rates.seen]
    whole = rates()
    assert whole==[(e, pytest.approx(lr*flat_lin(e/total, n_epochs, n_epochs_decay), rel=1e-9)) for e in range(total) for _ in range(2)]
    assert rates(start_epoch=split)==whole[2*split:]

scheds = dict(lin=SchedLin, cos=SchedCos, exp=SchedExp)
@tried(6, name=st.sampled_from(sorted(scheds)), a=st.floats(.01, 20), b=st.floats(.01, 20), n=ints(1, 2))
def test_weights_follow_their_schedules(tiny, name, a, b, n):
    f = scheds[name](a, b)
    learn = tiny(lambda_cycle=f)
    with learn.no_bar(), learn.no_logging(): learn.fit(n)
    seen = [w for *_,w in learn.rates.seen]
    assert [o['cycle'] for o in seen]==pytest.approx([float(f(i/(2*n))) for i in range(2*n)])
    assert {o['identity'] for o in seen}=={5.}

# Tiles

class Same:
    "Gives back what it gets"
    def __init__(self, radius): self.radius,self.seen = radius,[]
    def __call__(self, x): self.seen.append(x.shape); assert x.shape[2]%4==0 and x.shape[3]%4==0 and min(x.shape[2:])>=16; return x
    def fixed(self, samples): assert samples.shape[2:]==(128,128); return self

@tried(150, h=ints(1, 400), w=ints(1, 400), tile=fours(4, 200), margin=fours(0, 200))
def test_tiles_cover_each_pixel_once(h, w, tile, margin):
    seen = np.zeros((h,w), int)
    for core,outer,within in tiles(h, w, tile, margin):
        seen[core] += 1
        for c,o,i in zip(core, outer, within):
            assert 0<=o.start<=c.start<c.stop<=o.stop and o.stop-o.start<=tile+2*margin and (i.start+o.start, i.stop+o.start)==(c.start, c.stop)
    assert (seen==1).all()

@tried(60, n=ints(1, 3), h=ints(1, 260), w=ints(1, 260), whole=st.sampled_from([1, 999, 5000, 2**20]), tile=fours(64, 160), radius=ints(0, 70))
def test_tiles_of_nothing_done_are_the_image(n, h, w, whole, tile, radius):
    x,engine = noise(n, h, w, 3, seed=h*w),Same(radius)
    assert np.array_equal(translate_pixels(engine, x, whole, tile), x)
    most = max(o[0]*o[2]*o[3] for o in engine.seen)
    assert most<=max(whole, (max(h,16)+3)*(max(w,16)+3) if max(h,16)*max(w,16)<=whole else (tile+2*radius+6)**2)*1.5

@tried(100, h=ints(1, 90), w=ints(1, 90), multiple=st.sampled_from([1, 4, 16]), least=ints(1, 64))
def test_sides_are_padded(h, w, multiple, least):
    x = noise(1, h, w, 3)
    y = pad_sides(x, multiple, least)
    assert np.array_equal(y[:,:h,:w], x) and min(y.shape[1:3])>=least
    assert multiple==1 or y.shape[1]%multiple==0 or y.shape[1]==least

@tried(60, h=ints(20, 700), w=ints(20, 700), n=ints(1, 40))
def test_squares_from_all_over(h, w, n):
    res = sample_squares(noise(h, w, 3), 64, n)
    assert res.shape[1:]==(64,64,3) and 1<=len(res)<=4*n+4

@tried(30, n=ints(1, 2), h=ints(1, 40), w=ints(1, 40))
def test_pixels_there_and_back(n, h, w): assert np.array_equal(to_pixels(to_net(x := noise(n, h, w, 3))), x)

# Pictures

@tried(120, h=ints(1, 40), w=ints(1, 40), c=st.sampled_from([0, 3, 4]), first=st.booleans(), tensor=st.booleans(), kind=st.sampled_from(['uint8','float32','float64','int64']))
def test_arrays_become_photographs_and_arrays_again(h, w, c, first, tensor, kind):
    assume(not c or not {h,w} & {1,3,4})                                           # which axis is which? said elsewhere
    x = noise(h, w, *([c] if c else []))
    if c and first: x = x.transpose(2,0,1)
    x = (x/255).astype(kind) if 'float' in kind else x.astype(kind)
    if tensor: x = torch.from_numpy(np.ascontiguousarray(x))
    im = as_photo(x)
    assert im.size==(w,h) and im.mode=={0:'L',3:'RGB',4:'RGBA'}[c]
    y = like(im, x)
    assert type(y) is type(x) and y.dtype==x.dtype and y.shape==x.shape
    assert abs(y-x).max()<1e-6

@tried(60, h=ints(1, 30), w=ints(1, 30), mode=st.sampled_from(['1','L','LA','P','RGB','RGBA','CMYK','YCbCr','HSV','I','I;16','F']), seed=ints(0, 9))
def test_every_mode_has_colours(h, w, mode, seed):
    im = Image.fromarray(noise(h, w, 3, seed=seed)).convert({'I;16':'I'}.get(mode, mode))
    if mode=='I;16': im = im.convert('I;16')
    rgb,alpha = split_alpha(im, (0,255))
    assert rgb.mode=='RGB' and rgb.size==(w,h) and (alpha is None)==(mode not in ('LA','RGBA')) and (alpha is None or alpha.size==(w,h))

@tried(300, w=ints(1, 5000), h=ints(1, 5000), short=st.none() | ints(1, 3000))
def test_scaled(w, h, short):
    a,b = scaled((w,h), short)
    assert (a,b)==(w,h) if short is None else min(a,b)==short and abs(a/b-w/h)<=(w/h)*(1/min(a,b))
    assert scaled((h,w), short)==(b,a)

@tried(40, h=ints(1, 40), w=ints(1, 40), turn=ints(1, 8), format=st.sampled_from(['PNG','JPEG','WEBP','TIFF']))
def test_photographs_are_turned_upright(h, w, turn, format):
    exif = Image.Exif()
    exif[274] = turn
    with tempfile.TemporaryDirectory() as d:
        Image.fromarray(noise(h, w, 3)).save(fn := Path(d)/'x', format, exif=exif)
        im = open_photo(fn)
        assert im.size==((w,h) if turn<=4 else (h,w)) and im.getexif().get(274, 1)==1
        assert to_rgb(im).size==as_photo(im).size==im.size

# Recipes

words = st.text(st.characters(blacklist_categories=['Cs']), min_size=1).filter(str.strip)
rate = lambda high,**kw: st.floats(0, high, allow_subnormal=False, **kw)
@tried(100, recipe=st.builds(Recipe, data=words, size=fours(24, 512), epochs=ints(0, 10**4), decay_epochs=ints(1, 10**4), bs=ints(1, 99), blocks=ints(0, 20), width=ints(1, 256),
    lr=rate(9, exclude_min=True), identity=rate(99), ema=rate(1, exclude_max=True), augment=st.sampled_from(['full','flip','none']), seed=ints(0, 2**32-1),
    damaged=st.sampled_from(['error','skip']), deterministic=st.booleans()))
def test_a_recipe_comes_back(recipe):
    with tempfile.TemporaryDirectory() as d:
        out = start_run(recipe, Path(d)/'run')
        assert load_recipe(out)==recipe and json.loads((out/'recipe.json').read_text(encoding='utf-8'))==asdict(recipe)
        assert [o.name for o in out.iterdir()]==['recipe.json']
