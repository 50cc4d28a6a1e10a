"What `cyclegan_learner` sees in the first batches, before it makes anything"
import warnings
import pytest, torch
from fastai.vision.all import *
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.data.unpaired import *
from cyclegan_fastai.data.tensors import tensor_dls
from cyclegan_fastai.game.learner import *
from cyclegan_fastai.game.state import random_state

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(8, 6, 32, 1, tmp_path_factory.mktemp('data')/'seasons')

def block(data, batch_tfms=None, **kwargs):
    items = DataBlock(UnpairedBlock(size=32, **kwargs), get_items=lambda p: get_image_files(p, folders=['trainA','trainB']),
                      splitter=RandomSplitter(seed=1), batch_tfms=batch_tfms)
    return items.dataloaders(data, bs=2, num_workers=0)

def tensors(a, b=None, kind='fastai', n_inp=2):
    "Loaders of the images `a`, and of `b` if there are others"
    b = a if b is None else b
    if kind=='games': return tensor_dls((a, b), (a, b), bs=2)
    cls = DataLoader if kind=='fastai' else torch.utils.data.DataLoader
    dls = DataLoaders(*(cls(list(zip(a, b)), batch_size=2, shuffle=True) for _ in range(2)), device=torch.device('cpu'))
    dls.n_inp = n_inp
    return dls

def images(*shape, low=-1., high=1.): return low + (high-low)*torch.rand(*(shape or (4,3,32,32)))
def make(dls): return cyclegan_learner(dls, n_blocks=1, nf=4)

imagenet = Normalize.from_stats(*imagenet_stats, cuda=False)
WRONG = {
    'imagenet_stats': (lambda d: block(d, imagenet), r'`real_a` in validation must be in \[-1, 1\], .* got .*leave `Normalize` out of `batch_tfms`'),
    'another_size': (lambda d: block(d, aug_tfms=aug_transforms(size=64)), "`aug_tfms` must leave the size to `UnpairedBlock`: pass `size=64` to it alone"),
    'size_in_batch_tfms': (lambda d: block(d, aug_transforms(size=64)), "`real_a` in .* must be of the loaders' `size`, 32, got 64×64: leave `size` out of `aug_transforms`"),
    'bytes': (lambda d: tensors((images()*127+128).byte()), r'`real_a` in training must be float images of \(n, 3, height, width\), got torch.uint8'),
    'bytes_as_floats': (lambda d: tensors(images(high=255.)), r'must be in \[-1, 1\]'),
    'grey': (lambda d: tensors(images(), images(4,1,32,32)), r'`real_b` in training must be float images .* got torch.float32 of \(2, 1, 32, 32\)'),
    'channels_last': (lambda d: tensors(images(4,32,32,3)), r'got torch.float32 of \(2, 32, 32, 3\)'),
    'labels': (lambda d: tensors(images(), torch.arange(4)), r'`real_b` in training must be float images'),
    'odd_sides': (lambda d: tensors(images(4,3,32,30)), 'sides that are multiples of 4, got 32×30'),
    'nan': (lambda d: tensors(images()*torch.nan), r'must be in \[-1, 1\]'),
    'one_domain': (lambda d: tensors(images(), images(low=-3.)), r'`real_b` in validation must be in \[-1, 1\]'),
}
@pytest.mark.parametrize('name', WRONG)
def test_wrong_images_are_refused(data, name):
    dls,message = WRONG[name]
    with pytest.raises(ValueError, match=message): make(dls(data))

@pytest.mark.parametrize('kind', ['fastai', 'torch', 'games'])
def test_right_images_are_taken(kind): make(tensors(images(), images(3,3,32,32) if kind=='torch' else None, kind))

def test_a_range_that_may_be_wrong_is_warned_of(data):
    with pytest.warns(UserWarning, match=r'`real_b` in validation are from .*If they are in \[0, 1\], scale them by `x\*2 - 1`'):
        make(tensors(images(), images(low=0.)))
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        make(block(data))
        make(block(data, aug_tfms=[RandomResizedCropGPU(32)]))

def test_loaders_without_validation_are_looked_at(data):
    dls = block(data, imagenet)
    dls.loaders = dls.loaders[:1]
    with pytest.raises(ValueError, match=r'`real_a` in training must be in \[-1, 1\]'): make(dls)

class Stream(torch.utils.data.IterableDataset):
    read = 0
    def __iter__(self):
        while True:
            self.read += 1
            yield images(3,32,32),images(3,32,32)

def test_nothing_is_drawn_or_lost(data):
    "Seeded training has the numbers that it had without the look"
    gen,stream = torch.Generator(),Stream()
    for dls in (block(data), UnpairedDataLoaders.from_folder(data, 32, bs=2, device='cpu'), UnpairedDataLoaders.from_folder(data, 32, bs=2, num_workers=2, device='cpu'),
                tensors(images()), tensors(images(), kind='games'), tensors(images(), kind='torch')):
        for o in dls.loaders:
            if isinstance(o, torch.utils.data.DataLoader): o.generator = o.sampler.generator = gen
        before,own = random_state(dls.loaders),gen.get_state()
        check_images(dls)
        after = random_state(dls.loaders)
        assert before['loaders']==after['loaders'] and before['python']==after['python'] and before['numpy']==after['numpy']
        assert torch.equal(before['torch'], after['torch']) and torch.equal(own, gen.get_state())
    dls = DataLoaders(torch.utils.data.DataLoader(stream, batch_size=2), device='cpu')
    dls.n_inp = 2
    make(dls)
    assert not stream.read

def test_few_images_are_read(data, monkeypatch):
    dls = UnpairedDataLoaders.from_folder(data, 32, bs=8, device='cpu')
    read = []
    real = UnpairedDL.create_item
    monkeypatch.setattr(UnpairedDL, 'create_item', lambda self, s: read.append(s) or real(self, s))
    check_images(dls)
    assert len(read)<=2*4+2                                           # fastai looks at one more to learn the types
