"Images in memory: the same batches as from files, bit for bit, and from the second start on without decoding"
import random

import numpy as np, pandas as pd, pytest, torch
from fastai.data.load import DataLoader
from fastai.data.core import DataLoaders
from fastai.torch_core import set_seed
from fastai.vision.all import ColReader, ColSplitter, DataBlock, FuncSplitter, RandomResizedCrop, Transform, get_image_files, parent_label
from PIL import Image

import cyclegan_fastai.data.memory as memory
from cyclegan_fastai.data.unpaired import Flip, UnpairedBlock, UnpairedDataLoaders, UnpairedDL
from cyclegan_fastai.measure.evaluation import evaluate
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.data.memory import MemoryDL
from cyclegan_fastai.watch.samples import ShowSamples


@pytest.fixture
def folder(tmp_path):
    "Photographs of many sizes, eleven of A and seven of B"
    rng = np.random.default_rng(0)
    for k,n in dict(trainA=11, trainB=7, testA=5, testB=4).items():
        (tmp_path/'data'/k).mkdir(parents=True)
        for i in range(n): Image.fromarray(rng.integers(0, 255, (40+5*i, 60, 3), dtype=np.uint8)).resize((90, 40+7*i)).save(tmp_path/'data'/k/f'{i}.{("png","jpg")[i%2]}')
    return tmp_path/'data'


def loaders(folder, **kwargs): return UnpairedDataLoaders.from_folder(folder, **{**dict(size=32, bs=3, device='cpu'), **kwargs})


@pytest.mark.parametrize('kwargs', [{}, dict(aug_tfms=[Flip()], load=32), dict(aug_tfms=[], method='crop'), dict(bs=1, method='pad')])
def test_batches_are_the_same(folder, tmp_path, kwargs):
    files = loaders(folder, **kwargs)
    kept = files.in_memory(tmp_path/'cache')
    assert all(isinstance(o, MemoryDL) for o in kept.loaders) and kept.n_inp==2
    for split in ('train','valid'):
        for dls in (files, kept): getattr(dls, split).rng.seed(5)
        found = []
        for dls in (files, kept):
            set_seed(7)
            found.append([b for _ in range(2) for b in getattr(dls, split)])
        assert len(found[0])==len(found[1])==2*len(getattr(files, split)) > 0
        for x,y in zip(*found):
            assert type(x[0]) is type(y[0])
            for a,b in zip(x, y): assert torch.equal(a, b)
        if split=='train' and len(found[0])>1: assert not torch.equal(found[0][0][0], found[0][1][0])


def test_nothing_is_decoded_twice(folder, tmp_path, monkeypatch):
    first = loaders(folder).in_memory(tmp_path/'cache')
    def fail(*args): raise RuntimeError('decoded again')
    monkeypatch.setattr(memory, '_item', fail)
    again = loaders(folder).in_memory(tmp_path/'cache')
    assert torch.equal(first.train.images, again.train.images) and torch.equal(first.valid.images, again.valid.images)
    with pytest.raises(RuntimeError, match='decoded again'): loaders(folder, size=36).in_memory(tmp_path/'cache')
    Image.new('RGB', (50, 50), 'red').save(folder/'trainA'/'0.png')
    with pytest.raises(RuntimeError, match='decoded again'): loaders(folder).in_memory(tmp_path/'cache')


def test_a_damaged_or_unwritable_cache_is_no_misfortune(folder, tmp_path):
    true = loaders(folder).in_memory(tmp_path/'cache').train.images
    for i,fn in enumerate(sorted((tmp_path/'cache').iterdir())):
        data = bytearray(fn.read_bytes())
        data[len(data)//2] ^= 255
        fn.write_bytes(data[:100] if i else data)
    assert torch.equal(loaders(folder).in_memory(tmp_path/'cache').train.images, true)
    (tmp_path/'file').write_text('no folder')
    assert torch.equal(loaders(folder).in_memory(tmp_path/'file').train.images, true)
    assert not [o for o in (tmp_path/'cache').iterdir() if 'part' in o.name]


def test_what_does_not_fit_stays_in_files(folder, tmp_path):
    dls = loaders(folder)
    with pytest.warns(UserWarning, match='read from their files, as before'): assert dls.in_memory(tmp_path, most=1000) is dls
    assert isinstance(dls.train, UnpairedDL) and not list(tmp_path.glob('*.npz'))
    with pytest.raises(ValueError, match='`most`'): dls.in_memory(most=-1)
    with pytest.raises(TypeError, match='loaders of two domains'): DataLoaders(DataLoader([1]), DataLoader([1])).in_memory()
    kept = dls.in_memory(tmp_path)
    assert kept.in_memory() is kept


def test_a_learner_does_all_with_it_that_it_does_with_files(folder, tmp_path):
    dls = loaders(folder, domains=('dawn','dusk')).in_memory(tmp_path/'cache')
    assert dls.train.domains==('dawn','dusk')
    dls.show_batch(max_n=2)
    learn = cyclegan_learner(dls, n_blocks=1, nf=4, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    learn.show_results(max_n=2)
    found = [evaluate(learn, o, n=4, progress=False).table for o in (dls, loaders(folder, domains=('dawn','dusk')))]
    assert found[0].equals(found[1])
    learn.export('model.pkl')
    assert (tmp_path/'model.pkl').stat().st_size < 5e6


def test_other_images_come_from_files(folder, tmp_path):
    dls = loaders(folder).in_memory(tmp_path/'cache')
    other = dls.train.new(dls.valid.dataset)
    assert not isinstance(other, MemoryDL) or other.images is not dls.train.images
    assert next(iter(other))[0].shape==(3,3,32,32)


def same(x, y):
    "Are two epochs of both splits the same, from the same seeds?"
    found = []
    for dls in (x, y):
        for o in dls.loaders: o.rng.seed(5)
        set_seed(7)
        found.append([b for o in dls.loaders for _ in range(2) for b in o])
    return len(found[0])==len(found[1])>0 and all(torch.equal(a, b) for x,y in zip(*found) for a,b in zip(x, y))


def test_moments_are_the_same(folder, tmp_path):
    moments = []
    for dls in (loaders(folder), loaders(folder).in_memory(tmp_path)):
        dls.train.rng.seed(5); set_seed(7)
        x = torch.cat([torch.cat(b) for _ in range(8) for b in dls.train])
        moments.append(torch.stack([x.mean((0,2,3)), x.std((0,2,3)), (x**3).mean((0,2,3))]))
    assert torch.equal(*moments)


def letter(o): return parent_label(o)[-1]
def blocks(folder, **kwargs):
    return DataBlock(UnpairedBlock(letter, size=32), get_items=get_image_files, splitter=FuncSplitter(lambda o: 'test' in parent_label(o)),
                     **kwargs).dataloaders(folder, bs=3, num_workers=0, device='cpu')
def frame(folder):
    df = pd.DataFrame({'file': [str(o) for o in sorted(get_image_files(folder))]})
    df['domain'],df['is_valid'] = [letter(o) for o in df.file],['test' in parent_label(o) for o in df.file]
    return DataBlock(UnpairedBlock(ColReader('domain'), size=32), get_x=ColReader('file'), splitter=ColSplitter()).dataloaders(
        df, bs=3, num_workers=0, device='cpu')
def lasting(folder):
    dls = loaders(folder, num_workers=1)
    for o in dls.loaders: o.timeout = o.fake_l.timeout = 60
    return dls

@pytest.mark.parametrize('make', [blocks, frame, lasting])
def test_other_ways_to_loaders(folder, tmp_path, make):
    kept = make(folder).in_memory(tmp_path/'cache')
    assert all(isinstance(o, MemoryDL) for o in kept.loaders) and same(make(folder), kept)


class Negative(Transform):
    def encodes(self, x:Image.Image): return x.point(lambda o: 255-o)

@pytest.mark.parametrize('tfm', [Negative(), RandomResizedCrop(40)])
def test_transforms_of_others_stay_with_files(folder, tmp_path, tfm):
    blocks(folder).in_memory(tmp_path/'cache')                 # the same files, of the same size
    dls = blocks(folder, item_tfms=tfm)
    with pytest.warns(UserWarning, match=type(tfm).__name__): assert dls.in_memory(tmp_path/'cache') is dls


def test_no_home_to_keep_anything_in(folder, tmp_path, monkeypatch):
    (tmp_path/'file').write_text('no folder')
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path/'file'/'home'))
    memory.fastai_path.__globals__['fastai_cfg'].cache_clear()
    try: assert same(loaders(folder), loaders(folder).in_memory())
    finally: memory.fastai_path.__globals__['fastai_cfg'].cache_clear()


def test_chance_goes_on_as_without(folder, tmp_path):
    dls = loaders(folder)
    state = random.getstate(), torch.get_rng_state()
    dls.in_memory(tmp_path)
    assert random.getstate()==state[0] and torch.equal(torch.get_rng_state(), state[1])


def test_no_images_held_out(folder, tmp_path):
    dls = DataBlock(UnpairedBlock(letter, size=32), get_items=get_image_files, splitter=FuncSplitter(lambda o: False)).dataloaders(
        folder, bs=3, num_workers=0, device='cpu')
    kept = dls.in_memory(tmp_path)
    assert len(kept.valid)==0 and same(dls, kept)


def test_images_move_with_their_loaders(folder, tmp_path):
    dls = loaders(folder).in_memory(tmp_path)
    assert dls.to('meta').train.images.device==dls.valid.images.device==torch.device('meta')


def test_samples_and_predictions(folder, tmp_path):
    made = []
    for dls in (loaders(folder), loaders(folder).in_memory(tmp_path/'cache')):
        set_seed(1)
        learn = cyclegan_learner(dls, n_blocks=1, nf=4, path=tmp_path)
        for o in dls.loaders: o.rng.seed(5)
        with learn.no_bar(), learn.no_logging():
            learn.fit(2, cbs=ShowSamples(folder=tmp_path/'samples'))
            made.append([o.detach() for o in learn.model.parameters()] + list(learn.get_preds()[0].values()))
    assert all(torch.equal(a, b) for a,b in zip(*made)), 'training is the same, too'
