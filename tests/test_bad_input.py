"What clumsy and hostile users do: one row a case, with what it does, the error's class or the exit status, and words of the message"
import base64, io, json, math, os, re, shlex, struct, subprocess, sys, tarfile, time, warnings, zipfile, zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from cyclegan_fastai.all import *
from cyclegan_fastai.use import app, batch, deploy, export, serverless, web
from cyclegan_fastai.cli import main as cli
from cyclegan_fastai.use.engines import TorchEngine
from cyclegan_fastai.use.tiles import translate_pixels

root = Path(__file__).resolve().parents[1]
sample = root/'data'/'seasons_sample'
nan, inf = math.nan, math.inf
LIMIT = 2 # seconds; what it stops is a search for memory, or a hang

# What is made for a case, in the current folder

def put(fn, data=b''):
    fn = Path(fn)
    fn.parent.mkdir(parents=True, exist_ok=True)
    fn.write_bytes(data if isinstance(data, bytes) else data.encode())

def picture(*fns, size=(32, 28), **kwargs):
    for o in fns:
        Path(o).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, 'teal').save(o, **kwargs)

def two(odd='', data=None):
    "A sound data set, and one odd file in it"
    picture('set/A/1.png', 'set/A/2.png', 'set/B/1.png', 'set/B/2.png')
    if odd: put(f'set/A/{odd}', data) if data is not None else picture(f'set/A/{odd}')

def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
bomb = (b'\x89PNG\r\n\x1a\n'+chunk(b'IHDR', struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0))+chunk(b'IDAT', zlib.compress(b'\0'*99))+chunk(b'IEND', b''))
def jpeg(**kwargs): Image.effect_noise((64, 64), 50).convert('RGB').save(f := io.BytesIO(), 'JPEG', **kwargs); return f.getvalue()
def tiff(): Image.new('L', (5,5)).save(f := io.BytesIO(), 'TIFF'); return f.getvalue()

def archive(fn, *members):
    with zipfile.ZipFile(fn, 'w', zipfile.ZIP_DEFLATED) as f:
        for name,data in members: f.writestr(name, data)
def linked_tar(fn):
    with tarfile.open(fn, 'w') as f:
        o = tarfile.TarInfo('trainA'); o.type,o.linkname = tarfile.SYMTYPE,'/etc'
        f.addfile(o)

def run_folder(name='r', recipe=None, model=None, **files):
    Path(name).mkdir()
    if recipe is not None: put(f'{name}/recipe.json', recipe)
    if model is not None: put(f'{name}/model.safetensors', model)
    for k,v in files.items(): put(f'{name}/{k.replace("__", ".")}', v)

class Forbidden:
    def __reduce__(self): return os.mkdir, ('it ran',)

# Rows: name → (what is done, error, words of the message, what is made before)

cases = {}
def row(name, do, error, *words, make=None):
    assert name not in cases, name
    cases[name] = do, error, words, make

def vary(name, f, arg, values, *words, error=ValueError):
    "The same call with each of `values`"
    for v in values: row(f'{name}({arg}={" ".join(repr(v).split())[:40]})', partial(lambda w,f,kw: f(w, **kw), f=f, kw={arg: v}), error, f'`{arg}`', *words)

odd = '8', 2.5, None, True, nan, inf, -1, [8] # instead of a whole number
unreal = 'x', '0.1', -1, nan, inf, True, [1] # instead of a number from 0 on
no_path = None, '', 3, b'x', 'a\0b'

# Data

def folder(path='set', **kwargs): return lambda w: UnpairedDataLoaders.from_folder(path, **{'size': 32, 'device': 'cpu', 'valid_pct': 0, **kwargs})
def folders(a, b): return lambda w: UnpairedDataLoaders.from_folders(a, b, size=32, device='cpu')
layout = 'trainA', 'two folders'

row('data: nothing there', folder('nowhere'), NotADirectoryError, '`nowhere` is not a folder', 'pass the one')
row('data: a picture', folder('set.png'), NotADirectoryError, '`set.png` is not a folder', 'pass the one', make=lambda: picture('set.png'))
row('data: an empty folder', folder(), ValueError, '`set`', *layout, make=lambda: Path('set').mkdir())
row('data: pictures in no folder', folder(), ValueError, '`set`', *layout, make=lambda: picture('set/a.png', 'set/b.png'))
row('data: one folder', folder(), ValueError, 'found A (1 train)', *layout, make=lambda: picture('set/A/a.png'))
row('data: three folders', folder(), ValueError, 'found X (1 train), Y (1 train), Z (1 train)', *layout, make=lambda: picture('set/X/a.png', 'set/Y/a.png', 'set/Z/a.png'))
row('data: folders of text', folder(), ValueError, 'found no images', 'because of their endings: 2', 'set/A/a.txt', *layout, make=lambda: [put(f'set/{o}/a.txt', 'a') for o in 'AB'])
row('data: hidden pictures', folder(), ValueError, 'found no images', 'an ending like .jpg', *layout, make=lambda: picture('set/A/.a.png', 'set/B/.a.png'))
row('data: trainA alone', folder(), ValueError, 'found A (1 train)', *layout, make=lambda: picture('set/trainA/a.png'))
row('data: pairs side by side', folder(), ValueError, 'of no domain (1 train, 1 val)', 'cut pairs side by side in two', *layout, make=lambda: picture('set/train/a.png', 'set/val/a.png'))
row('data: splits for domains', folders('set/train', 'set/test'), ValueError, '`a` and `b`', 'set/train', 'two splits of one set', 'rename', make=lambda: picture('set/train/a.png', 'set/test/a.png'))
row('data: trainB empty', folder(), ValueError, 'found A (1 train)', *layout, make=lambda: (picture('set/trainA/a.png'), Path('set/trainB').mkdir()))
row('data: the same folder twice', folders('set/A', 'set/A'), ValueError, '`a` and `b` must be two folders', make=two)
row('data: the same folder by a link', folders('set/A', 'set/C'), ValueError, 'must be two folders', make=lambda: (two(), os.symlink('A', 'set/C')))
row('data: a folder inside the other', folders('set', 'set/A'), ValueError, 'neither inside the other', make=two)
row('data: of two folders one is a file', folders('set/A', 'set/A/1.png'), NotADirectoryError, '1.png', 'pass one folder', make=two)
row('data: more in a batch than there is', folder(bs=3), ValueError, '`bs`', '2 pairs', 'pass another `bs`', make=two)
for name,fn,data in (('of no bytes', '3.png', b''), ('text', '3.jpg', b'hello'), ('cut short', '3.jpg', jpeg()[:900]), ('a page', '3.gif', b'<html>'),
                     ('PostScript', '3.jpg', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n'), ('its name in two lines', 'a\nb.png', b'x'), ('its name with a dash', '--size.png', b'x'),
                     ('its name in brackets', '[a-z]{1}.png', b'x'), ('its name in Greek', 'ωμέγα 😀.png', b'x'), ('its name as markup', '[bold]x[/bold].png', b'x'), ('a broken TIFF', '3.tif', tiff()[:40]),
                     ('an archive', '3.webp', b'PK\3\4'+bytes(60)), ('zeros', '3.bmp', bytes(4096)), ('a loop of chunks', '3.png', bomb[:8]+chunk(b'tEXt', b'x')*50), ('an SVG', '3.png', b'<svg xmlns="x"/>')):
    row(f'data: a picture is {name}', folder(), DamagedImage, ' '.join(fn.split()), 'replace or remove', make=partial(two, fn, data))
row('data: a picture is a bomb', folder(), DamagedImage, '3.png', 'make it smaller', make=partial(two, '3.png', bomb))
row('data: a pipe', folder(), DamagedImage, 'pipe.png', 'replace or remove', make=lambda: (two(), os.mkfifo('set/A/pipe.png')))
row('data: a device', folder(), DamagedImage, 'zero.png', 'replace or remove', make=lambda: (two(), os.symlink('/dev/zero', 'set/A/zero.png')))
row('data: a link to nowhere', folder(), DamagedImage, 'gone.png', make=lambda: (two(), os.symlink('nowhere', 'set/A/gone.png')))
row('data: nothing left after skipping', folder(damaged='skip'), ValueError, 'no images to train on', make=lambda: [put(f'set/{o}/a.png') for o in 'AB'])

f = lambda w,**kw: UnpairedDataLoaders.from_folder(sample, **{'size': 32, 'device': 'cpu', **kw})
vary('from_folder', f, 'size', [*odd, 0, 65, 20, 2**20], 'got')
vary('from_folder', f, 'load', ['8', 40.5, nan, True, -1, 31, 2**24], 'got')
vary('from_folder', f, 'bs', [*odd, 0, 10**9], 'pass')
vary('from_folder', f, 'method', [None, 'Squish', 3], "'squish', 'crop' or 'pad'")
vary('from_folder', f, 'damaged', [None, 'ignore', True], "'error' or 'skip'")
vary('from_folder', f, 'domains', ['ab', ('x',), ('x','x'), (1,2), 3, ('a','b','c')], 'two different names')
vary('from_folder', f, 'num_workers', [-1, '2', 1.5, nan, True], 'pass')
vary('from_folder', f, 'device', ['abacus', 3.5, 'cuda:99'], "pass 'cpu'")
vary('from_folder', f, 'aug_tfms', ['flip', [3], 3, {'a': 1}], 'such as `[Flip()]`')
vary('from_folder', f, 'valid_pct', ['0.1', 1, -.1, nan, None], '[0, 1)')
vary('from_folder', lambda w,path: UnpairedDataLoaders.from_folder(path, size=32), 'path', no_path)
row('from_folder(sise=32)', lambda w: f(w, sise=32), TypeError, "'sise'")
row('from_files(a folder)', lambda w: UnpairedDataLoaders.from_files(sample), TypeError, '`files` must be', '`from_folder`')
vary('UnpairedBlock', lambda w,**kw: UnpairedBlock(**kw), 'domain_func', [None, 'x'], 'parent_label')
vary('load_images', lambda w,**kw: load_images(**{'fns': [sample/'testA'/'summer_0000.png'], **kw}), 'size', odd, 'pass')
row('load_images([])', lambda w: load_images([]), ValueError, '`fns` is empty', 'pass one')
vary('unpaired_tfms', lambda w,**kw: unpaired_tfms(**kw), 'p', [2, 'x', nan], 'such as')
vary('unpaired_tfms', lambda w,**kw: unpaired_tfms(**kw), 'max_zoom', [0, 'x', nan], 'such as')
vary('tensor_dls', lambda w,**kw: tensor_dls(**{'train': (w.x,), 'valid': (w.x,), 'bs': 1, 'device': 'cpu', **kw}), 'bs', [*odd, 0, 99])
vary('tensor_dls', lambda w,**kw: tensor_dls(**{'train': (w.x,), 'valid': (w.x,), 'bs': 1, 'device': 'cpu', **kw}), 'train', [None, (), 'x', ('x',)], 'tuple of tensors')
vary('tensor_dls', lambda w,**kw: tensor_dls(**{'train': (w.x,), 'valid': (w.x,), 'bs': 1, 'device': 'cpu', **kw}), 'n_inp', ['1', 0, 2, nan], 'pass')
vary('paired_images', lambda w,**kw: paired_images(**{'a': sample/'testA', 'b': sample/'testA', **kw}), 'a', [None, '', 3])
vary('seasons', lambda w,**kw: seasons(**{'n_train': 1, 'n_test': 0, 'size': 16, 'path': 'drawn', **kw}), 'n_train', [*odd, 0, 10**9], 'pass')
vary('seasons', lambda w,**kw: seasons(**{'n_train': 1, 'n_test': 0, 'size': 16, 'path': 'drawn', **kw}), 'size', [*odd, 0, 10**9], 'pass')
for o in ('n_test','seed'): vary('seasons', lambda w,**kw: seasons(**{'n_train': 1, 'n_test': 0, 'size': 16, 'path': 'drawn', **kw}), o, odd, 'pass')
row('seasons over other files', lambda w: seasons(1, 0, 16, path='mine'), ValueError, '`path`', 'pass another', make=lambda: put('mine/letter.txt', 'dear'))
row('seasons below a file', lambda w: seasons(1, 0, 16, path='mine/x'), OSError, '`mine`', 'choose a folder', make=lambda: put('mine', 'dear'))

# Archives and addresses

fetch = lambda source='x.zip',**kw: lambda w: untar_unpaired(source, dest='.', archive='.', **kw)
vary('untar_unpaired', lambda w,source: untar_unpaired(source, dest='.'), 'source', [None, '', ' ', 3, b'x', 'a\0b'], 'must be the name of a data set')
row('archive: nothing there', fetch('nothing.zip'), FileNotFoundError, 'nothing.zip', 'horse2zebra')
row('archive: a name with a slip', fetch('hors2zebra'), FileNotFoundError, "did you mean 'horse2zebra'")
row('archive: text', fetch(), ValueError, '`x.zip`', 'Pass a zip', make=lambda: put('x.zip', 'hello'))
row('archive: of no bytes', fetch(), ValueError, '`x.zip`', 'Pass a zip', make=lambda: put('x.zip'))
row('archive: a pipe', fetch(), ValueError, '`x.zip`', 'Pass a zip', make=lambda: os.mkfifo('x.zip'))
row('archive: a device', fetch('/dev/zero'), ValueError, '`/dev/zero`', 'Pass a zip')
row('archive: a web page', fetch(), ValueError, 'a web page', 'Pass a zip', make=lambda: put('x.zip', '<!doctype html>'))
row('archive: cut short', fetch(), ValueError, '`x.zip`', 'Pass a zip', make=lambda: (archive('y.zip', ('trainA/a.png', 'x'*999)), put('x.zip', Path('y.zip').read_bytes()[:-40])))
row('archive: spoilt inside', fetch(), ValueError, 'is damaged', 'delete it', make=lambda: (archive('y.zip', ('a/a.png', os.urandom(999))),
    put('x.zip', (b := Path('y.zip').read_bytes())[:60]+bytes(20)+b[80:])))
row('archive: with a file outside', fetch(), ValueError, "'../../evil'", 'unpack it yourself', make=lambda: archive('x.zip', ('../../evil', 'x')))
row('archive: with an absolute path', fetch(), ValueError, "'/etc/evil'", 'unpack it yourself', make=lambda: archive('x.zip', ('/etc/evil', 'x')))
row('archive: with a link', fetch('x.tar'), ValueError, 'a link or a device', 'unpack it yourself', make=lambda: linked_tar('x.tar'))
row('archive: of no files', fetch(), ValueError, 'no files', 'unpack it yourself', make=lambda: archive('x.zip', ('a/', '')))
row('address: no host', fetch('http://'), ValueError, 'http://', 'pass its path')
row('address: ftp', fetch('ftp://127.0.0.1/x.zip'), ValueError, 'ftp://127.0.0.1/x.zip', 'pass its path')
row('address: a file', fetch('file:///etc/passwd'), ValueError, 'file:///etc/passwd', 'pass its path')
row('address: nobody listens', fetch('http://127.0.0.1:9/x.zip', tries=1), OSError, 'refused', 'By hand')
vary('untar_unpaired', lambda w,**kw: untar_unpaired('http://127.0.0.1:9/x.zip', dest='.', archive='.', **kw), 'tries', ['8', 2.5, None, nan, 0, -1, True], 'pass')
vary('untar_unpaired', lambda w,**kw: untar_unpaired('http://127.0.0.1:9/x.zip', dest='.', archive='.', **{'tries': 1, **kw}), 'timeout', ['x', 0, -1, nan, None], 'such as')

# Networks and losses

g, c = (lambda w,**kw: resnet_generator(**{'n_blocks': 1, 'nf': 4, **kw})), (lambda w,**kw: patch_critic(**{'nf': 4, **kw}))
vary('resnet_generator', g, 'n_blocks', [*odd, 10**6], 'pass')
for o in ('nf','c_in','c_out'): vary('resnet_generator', g, o, [*odd, 0, 10**7], 'pass')
vary('resnet_generator', g, 'norm', ['layer', 'Instance'], "'instance' or 'batch'")
vary('resnet_generator', g, 'norm', [3, None], 'such as')
vary('resnet_generator', g, 'dropout', [*unreal, None, 1, 1.5], 'such as')
vary('resnet_generator', g, 'up', ['bilinear', None, 3, ['resize']], "'transposed' or 'resize'")
for o in ('nf','n_layers','c_in'): vary('patch_critic', c, o, [*odd, 0, 10**7], 'pass')
vary('patch_critic', c, 'norm', ['layer', 3, None])
vary('init_gan', lambda w,**kw: init_gan(g(w), **kw), 'std', unreal, 'such as')
for name,f in dict(dense_generator=dense_generator, dense_critic=dense_critic, dcgan_generator=dcgan_generator, dcgan_critic=dcgan_critic, UNet=UNet).items():
    for arg in ('size','nf'): vary(name, lambda w,f=f,**kw: f(**kw), arg, ['8', 2.5, None, True, nan, -1, 0, 10**6], 'got')
    if 'dense' not in name: vary(name, lambda w,f=f,**kw: f(**kw), 'norm', ['batch', 3], 'such as')
vary('UNet', lambda w,**kw: UNet(**kw), 'size', [100, 4], 'power of two')
nets = lambda w: dict(generator_a2b=g(w), generator_b2a=g(w), critic_a=c(w), critic_b=c(w))
for o in ('lambda_cycle','lambda_identity','lambda_consistency'): vary('CycleGAN', lambda w,**kw: CycleGAN(**nets(w), **kw), o, [*unreal, None], 'such as')
vary('CycleGAN', lambda w,**kw: CycleGAN(**nets(w), **kw), 'adversarial', ['mse', None, 3, ['hinge']], 'least_squares')
for o in ('n_noise','n_classes'): vary('GAN', lambda w,**kw: GAN(dense_generator(8, nf=4, n_in=5), dense_critic(8, nf=4), **kw), o, odd, 'pass')
vary('Pix2Pix', lambda w,**kw: Pix2Pix(UNet(8, nf=4), c(w), **kw), 'lambda_l1', [*unreal, None], 'such as')
row('cycle_loss of other sizes', lambda w: cycle_loss(w.x, w.x[...,:16]), ValueError, '`cycled`', '(2, 3, 32, 16)', 'multiples of 4')
row('identity_loss of fewer images', lambda w: identity_loss(w.x, w.x[:1]), ValueError, '`identity`', '(1, 3, 32, 32)')
vary('shift_flip', lambda w,**kw: shift_flip(w.x, **kw), 'max_shift', [*odd, 64], 'pass')
row('psnr of other shapes', lambda w: psnr(w.x, w.x[...,:16]), ValueError, '`images` and `truth`', 'resize')
row('ssim of small images', lambda w: ssim(w.x[...,:8], w.x[...,:8]), ValueError, 'at least 11', 'resize')

# A learner

learner = lambda w,**kw: cyclegan_learner(**{'dls': w.dls, 'n_blocks': 1, 'nf': 4, **kw})
row('cyclegan_learner(lr_max=1)', lambda w: learner(w, lr_max=1), TypeError, "'lr_max'")
vary('cyclegan_learner', learner, 'dls', [None, 'set', sample], '`UnpairedDataLoaders`', error=TypeError)
vary('cyclegan_learner', learner, 'n_blocks', ['8', 2.5, True, nan, -1, 10**6], 'pass')
vary('cyclegan_learner', learner, 'nf', [*odd, 0, 10**7], 'pass')
vary('cyclegan_learner', learner, 'norm', ['layer', 3, None])
vary('cyclegan_learner', learner, 'dropout', [-1, 2, 'x'], 'such as')
vary('cyclegan_learner', learner, 'up', ['bilinear'], 'resize')
vary('cyclegan_learner', learner, 'adversarial', ['mse', None], 'least_squares')
for o in ('lambda_cycle','lambda_identity','lambda_consistency'): vary('cyclegan_learner', learner, o, ['x', -1, nan, inf, None], 'such as')
vary('cyclegan_learner', learner, 'lr', ['x', -1, nan, inf, None, [1e-4], [1,2,3]])
vary('cyclegan_learner', learner, 'critic_nf', ['8', 2.5, 0])
vary('cyclegan_learner', learner, 'pool_size', ['8', 2.5, None, True, -1])
vary('cyclegan_learner', learner, 'n_critic', [*odd, 0])
vary('cyclegan_learner', learner, 'ema', ['x', -1, nan, 1, True])
vary('cyclegan_learner', learner, 'opt_func', ['adam', None], 'gan_adam')
vary('cyclegan_learner', learner, 'cbs', ['progress', 3], error=TypeError)
vary('cyclegan_learner', learner, 'metrics', ['kid', 3], error=TypeError)
row('cyclegan_learner(lambda_cycle=a function of nothing)', lambda w: learner(w, lambda_cycle=lambda: 3), ValueError, '`lambda_cycle`', 'SchedLin')
row('cyclegan_learner(lambda_cycle=a function that gives text)', lambda w: learner(w, lambda_cycle=lambda p: 'x'), ValueError, '`lambda_cycle`', 'SchedLin')
vary('game_learner', lambda w,**kw: game_learner(w.dls, **kw), 'game', [None, 'x', nn.Linear(2, 2)], 'CycleGAN', error=TypeError)
fit = lambda w,**kw: w.learn.fit_flat_lin(**{'n_epochs': 1, 'n_epochs_decay': 0, **kw})
vary('fit_flat_lin', fit, 'n_epochs', [*odd])
vary('fit_flat_lin', lambda w,**kw: fit(w, n_epochs=0, **kw), 'n_epochs_decay', [*odd, 0])
vary('fit_flat_lin', fit, 'lr_max', ['x', -1, nan, [1,2,3]])
vary('fit_flat_lin', fit, 'start_epoch', ['x', -1, nan, .5])
vary('FakePool', lambda w,**kw: FakePool(**kw), 'size', odd)
vary('GeneratorEMA', lambda w,**kw: GeneratorEMA(**kw), 'decay', ['x', -1, nan, 1])
vary('AlternatingTrainer', lambda w,**kw: AlternatingTrainer(**kw), 'n_critic', [*odd, 0])
for o in ('every','n'):
    vary('ShowSamples', lambda w,**kw: ShowSamples(**kw), o, [*odd, 0])
    vary('KID', lambda w,**kw: KID(**kw), o, [*odd, 0])
vary('KID', lambda w,**kw: KID(**kw), 'features', ['vgg', 3, [], ['lite0','vgg']], 'lite0')
row('LossTerms of no such term', lambda w: learner(w, cbs=LossTerms(cycles=1)), ValueError, "'cycles'", "'cycle'")
row('learn.load: nothing there', lambda w: w.learn.load('missing'), FileNotFoundError, 'missing.pth', '`save`')
row('learn.load: text', lambda w: w.learn.load(Path('x').absolute()), ValueError, 'x.pth', make=lambda: put('x.pth', 'hello'))
row('learn.load: a pickle', lambda w: w.learn.load(Path('x').absolute()), ValueError, 'x.pth', make=lambda: torch.save(Forbidden(), 'x.pth'))
row('learn.load: another network', lambda w: w.learn.load(Path('x').absolute()), ValueError, 'x.pth', 'another shape', make=lambda: torch.save(dict(w=torch.zeros(2)), 'x.pth'))
vary('show_results', lambda w,**kw: w.learn.show_results(**kw), 'max_n', [0, 'x', 2.5])
vary('show_batch', lambda w,**kw: w.dls.show_batch(**kw), 'max_n', [0, 'x', 2.5, -1], 'pass')
vary('predict', lambda w,**kw: w.learn.predict(sample/'testA'/'summer_0000.png', **kw), 'to', ['autumn', 3, ['winter']], "'A' or 'B'")

# Measures

for o in ('n_resamples','seed'): vary('kernel_distance', lambda w,**kw: kernel_distance(*w.features, **kw), o, ['8', 2.5, -1, nan])
row('kernel_distance of other features', lambda w: kernel_distance(w.features[0], w.features[1][:,:3]), ValueError, '`x` and `y`')
row('frechet_distance of nan', lambda w: frechet_distance(w.features[0]*nan, w.features[1]), ValueError, '`x` and `y`', 'finite')
row('frechet_distance of one', lambda w: frechet_distance(w.features[0][:1], w.features[1]), ValueError, 'two images of each')
vary('get_features', lambda w,**kw: get_features(**kw), 'features', ['fid', None, 3, ['lite0']], "'lite0', 'lite1', 'mobilenet', 'inception'")
vary('Features', lambda w,**kw: Features(nn.Identity(), **kw), 'size', ['8', 2.5, True, nan, 0, -1], 'pass')
vary('embed', lambda w,**kw: Features(nn.AdaptiveAvgPool2d(1)).embed(**kw), 'images', [None, 'x', torch.zeros(3, 8, 8), torch.zeros(0, 3, 8, 8)], 'of one image at least')
vary('embed', lambda w,**kw: Features(nn.AdaptiveAvgPool2d(1)).embed(w.x, **kw), 'bs', ['8', 0, -1, 2.5], 'pass')
vary('evaluate', lambda w,**kw: evaluate(**{'model': w.learn, 'dls': w.dls, **kw}), 'model', [None, 'x', (1,2)], error=TypeError)
vary('evaluate', lambda w,**kw: evaluate(**{'model': w.learn, 'dls': w.dls, **kw}), 'dls', [None, 'x'], error=TypeError)
vary('evaluate', lambda w,**kw: evaluate(**{'model': w.learn, 'dls': w.dls, **kw}), 'n', ['x', 2.5, 0, -1, 1])
vary('evaluate', lambda w,**kw: evaluate(**{'model': w.learn, 'dls': w.dls, **kw}), 'features', ['vgg', 3, [], ['lite0','vgg']], 'lite0')
t_scores = lambda w,**kw: truth_scores(**{'a2b': torch.neg, 'b2a': torch.neg, 'path': sample, 'size': 32, **kw})
vary('truth_scores', t_scores, 'path', no_path)
vary('truth_scores', t_scores, 'a2b', [None, 'x'], 'function')
vary('truth_scores', t_scores, 'size', [*odd, 8], 'pass')
vary('truth_scores', t_scores, 'truth', ['x', 3, ('truthA',)], 'two folders')

# A recipe

for o in ('epochs','decay_epochs','bs','blocks','width','size'): vary('Recipe', lambda w,**kw: Recipe(**kw), o, odd, 'got')
for o in ('lr','identity','consistency','dropout','ema'): vary('Recipe', lambda w,**kw: Recipe(**kw), o, ['x', '0.1', -1, nan, inf, None, True], 'got')
vary('Recipe', lambda w,**kw: Recipe(**kw), 'size', [65, 16], 'got')
vary('Recipe', lambda w,**kw: Recipe(**kw), 'augment', ['lots', None, 3], "'full', 'crop', 'flip' or 'none'")
vary('Recipe', lambda w,**kw: Recipe(**kw), 'up', ['nearest', None, 3], "'transposed' or 'resize'")
vary('Recipe', lambda w,**kw: Recipe(**kw), 'data', [None, 3, ''])

# A trained model

tr = lambda w,**kw: Translator(**{'engines': w.t.engines, 'domains': ('summer','winter'), **kw})
vary('Translator', tr, 'engines', [{}, {'x': 1}, None, 3, 'summer'], 'one or both')
vary('Translator', tr, 'domains', ['ab', ('summer',), 3, None, ('x','x'), ('a','b','c'), (1,2)], 'two different names')
vary('Translator', tr, 'size', ['8', 2.5, True, nan, 0, -1], 'pass')
vary('Translator', tr, 'whole', [*odd, 0], 'pass')
vary('Translator', tr, 'tile', [*odd, 0, 70, 32], 'got')
vary('Translator', tr, 'about', [3, 'x', [1]], 'dict')
call = lambda w,**kw: w.t(**{'image': sample/'testA'/'summer_0000.png', **kw})
vary('translate', call, 'image', [None, 3, b'abc', {'a': 1}], 'a path, a PIL image', error=TypeError)
vary('translate', call, 'image', [np.zeros((2,2,7)), np.zeros((0,3,4,4)), np.full((4,4,3), nan), torch.full((3,4,4), 2.), np.zeros((4,4,3), complex), np.zeros((4,4,3), object), np.array('x')])
row('translate a missing picture', lambda w: w.t('nope.jpg'), FileNotFoundError, 'nope.jpg', 'check the path')
row('translate a folder', lambda w: w.t(sample), DamagedImage, 'seasons_sample', 'replace')
row('translate a list with nothing in it', lambda w: w.t([Image.new('RGB', (8,8)), None]), TypeError, '`image`', 'a path')
vary('translate', call, 'to', ['autumn', 3, '', b'winter', ['winter']], "'summer' or 'winter'")
vary('translate', call, 'size', ['x', -1, nan, 2.5, True, 0, 3], '≥ 4')
vary('translate', call, 'size', [10**5, 10**9], 'pass a smaller')
vary('save', lambda w,path: w.t.save(path), 'path', [*no_path, 'x.bin', sample])
vary('save', lambda w,dtype: w.t.save('x.safetensors', dtype), 'dtype', ['int8', None, torch.float16], "'float32' or 'float16'")
row('save below a file', lambda w: w.t.save('x/m.safetensors'), OSError, '`x/m.safetensors`', 'choose a folder', make=lambda: put('x', 'mine'))
vary('load', lambda w,path: Translator.load(path), 'path', no_path)
row('load: nothing there', lambda w: Translator.load('nope'), FileNotFoundError, '`nope`', 'name the folder')
vary('load', lambda w,device: Translator.load(w.model, device), 'device', ['abacus', 3.5, 'cuda:99'], "pass 'cpu'")
vary('TorchEngine', lambda w,net: TorchEngine(net), 'net', [None, 'x', 3], 'PyTorch', error=TypeError)
px = lambda w,**kw: translate_pixels(w.t.engine(), **{'x': np.zeros((1,80,80,3), np.uint8), 'whole': 4096, **kw})
vary('translate_pixels', px, 'x', [None, np.zeros((16,16,3), np.uint8), np.zeros((1,16,16,4), np.uint8), np.zeros((0,16,16,3), np.uint8), np.zeros((1,0,0,3), np.uint8), np.zeros((1,16,16,3))], 'x[None]')
for o in ('whole','tile'): vary('translate_pixels', px, o, [*odd, 0], 'pass')
vary('translate_pixels', px, 'tile', [66], 'tile=64')
for name,f in dict(export_safetensors=export.export_safetensors, export_onnx=export.export_onnx, export_torchscript=export.export_torchscript, export_web=web.export_web,
                   export_lambda=deploy.export_lambda).items():
    vary(name, lambda w,out,f=f: f(w.t, out), 'out', no_path)
    row(f'{name} over what is there', lambda w,f=f: f(w.t, 'x'), FileExistsError, '`out` x', 'pass another', make=lambda: put('x', 'mine'))
    row(f'{name} below a file', lambda w,f=f: f(w.t, 'x/y'), OSError, '`x`', 'choose a folder', make=lambda: put('x', 'mine'))
    if 'web' not in name: vary(name, lambda w,dtype,f=f: f(w.t, 'made', dtype), 'dtype', ['int4', None, torch.float16], 'float32')
find = lambda w,**kw: batch.find_images(**{'sources': [sample], 'out': 'made', 'to': 'winter', **kw})
vary('find_images', find, 'sources', [[], [None], [''], ['a\0b'], [3]])
vary('find_images', find, 'out', no_path)
vary('find_images', find, 'to', [None, 3, ''], 'name of a domain')
row('find_images: one name that is not there', lambda w: find(w, sources='photo.jpg'), FileNotFoundError, '`photo.jpg`', 'Name image files')
vary('launch_app', lambda w,port: app.launch_app(w.t, port=port, wait=False), 'port', ['x', -1, 0, 10**6, 2.5], 'pass')
vary('launch_app', lambda w,max_mb: app.launch_app(w.t, max_mb=max_mb, wait=False), 'max_mb', ['x', -1, 0, nan], 'such as')
vary('launch_app', lambda w,max_pixels: app.launch_app(w.t, max_pixels=max_pixels, wait=False), 'max_pixels', ['x', -1, 0, nan, 2.5], 'pass')
for o in ('192.0.2.1', '999.1.1.1', 3): row(f'launch_app(host={o!r})', lambda w,o=o: app.launch_app(w.t, o, wait=False), OSError, str(o), '`host`')

# Files of models

def load(name='r'): return lambda w: Translator.load(name)
safetensors = lambda header,data=b'': struct.pack('<Q', len(h := header if isinstance(header, bytes) else json.dumps(header).encode()))+h+data
tensor_of = lambda **meta: safetensors({'__metadata__': {k: v if isinstance(v, str) else json.dumps(v) for k,v in meta.items()}, 'to_a.x': dict(dtype='F32', shape=[1], data_offsets=[0,4])}, bytes(4))
info = dict(format=1, domains=['a','b'], radius=8, size=32, about={}, arch={})
no_model = {
    'of no bytes': (b'', 'is damaged'), 'text': ('hello, world'*9, 'is damaged'), 'a pickle': (b'\x80\x04K\x01.', 'is damaged'), 'a picture': (jpeg(), 'is damaged'),
    'a length without end': (b'\xff'*64, 'is damaged'), 'a header that is cut': (safetensors({})[:9], 'is damaged'), 'no JSON': (safetensors(b'{]'*20), 'is damaged'),
    'JSON that is no header': (safetensors([1,2]), 'is damaged'), 'an offset outside': (safetensors({'x': dict(dtype='F32', shape=[9], data_offsets=[0,36])}), 'is damaged'),
    'a shape without end': (safetensors({'x': dict(dtype='F32', shape=[2**40,2**40], data_offsets=[0,4])}, bytes(4)), 'is damaged'),
    'of another program': (safetensors({'x': dict(dtype='F32', shape=[1], data_offsets=[0,4])}, bytes(4)), "wasn't written by cyclegan_fastai"),
    'what it says is no JSON': (tensor_of(cyclegan_fastai='{'), 'is damaged'), 'what it says is a number': (tensor_of(cyclegan_fastai='3'), 'is damaged'),
    'one domain': (tensor_of(cyclegan_fastai={**info, 'domains': ['a']}), 'is damaged'), 'the same domain twice': (tensor_of(cyclegan_fastai={**info, 'domains': ['a','a']}), 'is damaged'),
    'a radius in words': (tensor_of(cyclegan_fastai={**info, 'radius': 'far'}), 'is damaged'), 'a size in words': (tensor_of(cyclegan_fastai={**info, 'size': 'big'}), '`r/model.safetensors`'),
    'a newer format': (tensor_of(cyclegan_fastai={**info, 'format': 99}), 'update the package'), 'no arch': (tensor_of(cyclegan_fastai=info), "don't fit"),
    'arch of text': (tensor_of(cyclegan_fastai={**info, 'arch': 'big'}), "don't fit"), 'an arch without end': (tensor_of(cyclegan_fastai={**info, 'arch': {'a': dict(n_blocks=1, nf=10**9)}}), "don't fit"),
    'about of text': (tensor_of(cyclegan_fastai={**info, 'about': 'me'}), '`r/model.safetensors`')}
for name,(data,says) in no_model.items(): row(f'model: {name}', load(), ValueError, 'model.safetensors', says, *(['again'] if 'damaged' in says or 'fit' in says else []), make=partial(run_folder, model=data))
row('model: a folder without one', load(), FileNotFoundError, '`r`', 'name the folder', make=lambda: put('r/x.txt', 'x'))
row('model: a run that was stopped', load(), FileNotFoundError, '--resume', make=lambda: put('r/recipe.json', '{}'))
row('model: a folder by its name', load(), FileNotFoundError, '`r`', make=lambda: Path('r/model.safetensors').mkdir(parents=True))
row('model: of another kind', load('x.h5'), ValueError, '`x.h5`', '.safetensors', make=lambda: put('x.h5', 'x'))
row("model: a learner's pickle", load('x.pkl'), ValueError, '`x.pkl`', 'trust=True', make=lambda: torch.save(Forbidden(), 'x.pkl'))
for name,data in {'text': b'hello', 'of no bytes': b'', 'noise': bytes(range(256))*9}.items():
    row(f'model: ONNX, {name}', load('x.onnx'), ValueError, '`x.onnx`', 'is damaged', 'again', make=partial(put, 'x.onnx', data))
no_recipe = {'of no bytes': '', 'text': 'hello', 'a list': '[1]', 'null': 'null', 'a number': '3', 'unknown settings': '{"sise": 3}', 'size in words': '{"size": "big"}', 'no epochs': '{"epochs": 0, "decay_epochs": 0}',
             'nan': '{"lr": NaN}', 'nested without end': '['*100000, 'bytes': b'\xff\xfe\x00', 'a width without end': '{"width": 1e999}', 'twice the same': '{"bs": 1, "bs": 0}'}
for name,text in no_recipe.items(): row(f'recipe: {name}', lambda w: load_recipe('r'), ValueError, '`r/recipe.json`', make=partial(run_folder, recipe=text))

# What strangers send

def refused(w, event):
    res = serverless.Service(w.model.parent)(event)
    if res['statusCode']<400: return res
    raise RuntimeError(f"{res['statusCode']} {json.loads(res['body'])['error']}")
ask = lambda image=b'',**kw: lambda w: refused(w, serverless.make_event(image, **kw))
posted = lambda body,kind='application/json',**kw: lambda w: refused(w, {**serverless.make_event(kind=kind), 'body': body, 'isBase64Encoded': False, **kw})
png = lambda size=(16,16): (Image.new('RGB', size).save(f := io.BytesIO(), 'PNG'), f.getvalue())[1]
b64 = base64.b64encode(png()).decode()
for name,do,status,*words in (
    ('no event', lambda w: refused(w, None), 400, 'no HTTP request', 'API Gateway'), ('a list', lambda w: refused(w, [1]), 400, 'no HTTP request'),
    ('DELETE', ask(png(), method='DELETE'), 405, 'POST an image'), ('PUT', ask(png(), method='PUT'), 405, 'POST an image'), ('a method of 100 letters', ask(method='X'*100), 405, 'POST an image'),
    ('nothing', ask(), 400, '`image` is empty', 'send'), ('text', ask(b'hello'), 400, 'send one of PNG'), ('a cut image', ask(jpeg()[:300]), 400, '`image`'), ('a bomb', ask(bomb), 413, 'send a smaller one'),
    ('PostScript', ask(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'), 400, 'send one of PNG'), ('no JSON', posted('{'), 400, 'send {"image"'), ('a list of JSON', posted('[1]'), 400, 'send {"image"'),
    ('JSON without end', posted('['*10**5), 400, 'send {"image"'), ('JSON without an image', posted('{}'), 400, '`image` is empty'), ('a number for an image', posted('{"image": 3}'), 400, '`image` must be base64'),
    ('wrong base64', posted('{"image": "###"}'), 400, "isn't base64", 'encode'), ('wrong base64 outside', posted('###', 'image/png', isBase64Encoded=True), 400, "isn't base64"), ('a body of numbers', posted(3), 400, '`body` must be a string'),
    ('bytes that are lost', posted('\ufffdPNG', 'image/png'), 400, 'its bytes are lost', 'binary media types'), ('much', posted('x'*7*2**20, 'image/png'), 413, 'send a smaller one'),
    ('a form', posted('a=b', 'application/x-www-form-urlencoded'), 415, 'must be application/json'), ('another domain', ask(png(), to='autumn'), 400, '`to`', "'summer' or 'winter'"),
    ('a domain of no text', posted(json.dumps(dict(image=b64, to=3))), 400, '`to`', "'summer' or 'winter'"), ('a format', ask(png(), format='tiff'), 400, '`format`', 'png'), ('a format of no text', posted(json.dumps(dict(image=b64, format=[1]))), 400, '`format`'),
    *((f'size={o!r}', ask(png(), size=o), 400, '`size`', 'at least 4') for o in ('x', 0, -1, 2.5, 'nan', '1e3', 10**9)), ('size of no text', posted(json.dumps(dict(image=b64, size=[1]))), 400, '`size`'),
    ('a large size', ask(png(), size=5000), 413, '`size=512` is the most'), ('a large image', ask(png((900,900))), 413, '`image`'), ('a strip', ask(png((40000,1))), 413, 'cut it')):
    row(f'request: {name}', do, RuntimeError, str(status), *words)
for name,data,*words in (('text', b'hello', 'choose a JPEG'), ('of no bytes', b'', 'choose a JPEG'), ('a bomb', bomb, 'megapixels', 'choose a smaller'), ('cut short', jpeg()[:300], 'choose another'), ('PostScript', b'%!PS-Adobe-3.0 EPSF-3.0\n', 'choose a JPEG'),
                         ('a film', b'\0\0\0\x20ftypisom'+bytes(99), 'choose a'), ('TIFF', tiff(), 'choose a JPEG')):
    row(f'upload: {name}', lambda w: app.open_upload('x.jpg'), DamagedImage, *words, make=partial(put, 'x.jpg', data))
row('upload: too heavy', lambda w: app.open_upload('x.jpg', max_mb=.001), DamagedImage, 'megabytes', 'choose a smaller', make=lambda: put('x.jpg', jpeg()))
row('upload: it is gone', lambda w: app.open_upload('x.jpg'), DamagedImage, 'choose it again')

# One test for all

@pytest.fixture(scope='module')
def world(tmp_path_factory, model_file, translator):
    "What the cases share; fastai's folders are in a place of their own"
    from fastai.data.external import fastai_cfg
    home, before = tmp_path_factory.mktemp('home'), os.environ.get('FASTAI_HOME')
    os.environ['FASTAI_HOME'] = str(home)
    fastai_cfg.cache_clear()
    fastai_path('data').mkdir()
    dls = UnpairedDataLoaders.from_folder(sample, size=32, bs=4, device='cpu')
    learn = cyclegan_learner(dls, n_blocks=1, nf=4, path=home)
    learn.model.generator_a2b(torch.zeros(1, 3, 32, 32))
    get_features('lite0')                                                 # imports and weights are not what is timed
    yield SimpleNamespace(dls=dls, learn=learn, t=translator, model=model_file, home=home, x=torch.zeros(2, 3, 32, 32), features=(torch.randn(8, 5), torch.randn(8, 5)))
    os.environ.pop('FASTAI_HOME') if before is None else os.environ.update(FASTAI_HOME=before)
    fastai_cfg.cache_clear()

def state(*folders):
    "All that is in some folders; what changed has another time or size"
    return {o: (s := o.lstat()) and (s.st_mtime_ns if not o.is_dir() else 0, s.st_size if not o.is_dir() else 0) for f in folders for o in f.rglob('*')}

foreign = re.compile(r"'NoneType'|unsupported operand|not supported between|has no attribute|object is not|cannot be interpreted|subscriptable|invalid literal|unhashable|object at 0x")
def check_message(text, words, seconds):
    plain = ' '.join(text.split())
    assert not [o for o in words if o not in plain], plain
    assert '\n\n' not in text.strip() and len(plain)<900, 'one paragraph'
    assert not foreign.search(plain), f'Python speaks: {plain}'
    assert seconds<LIMIT, f'{seconds:.1f} s'

@pytest.mark.parametrize('name', cases)
def test_one_clear_error(world, bell, tmp_path, monkeypatch, name):
    do, error, words, make = cases[name]
    monkeypatch.chdir(tmp_path)
    if make: make()
    before = state(tmp_path, world.home)
    bell(name)
    start = time.perf_counter()
    with warnings.catch_warnings(), pytest.raises(error) as e:
        warnings.simplefilter('ignore')
        do(world)
    check_message(str(e.value), words, time.perf_counter()-start)
    assert state(tmp_path, world.home)==before, 'nothing may be left behind'

# The command line: each flag of each verb

lines = {}
def line(text, *words, make=None, code=2):
    assert text not in lines, text
    lines[text] = code, words, make

def flags(text, values, *words, make=None):
    for v in values: line(f'{text} {v}', *words, make=make)

train = 'train --recipe paper --data {sample} --device cpu'
not_whole = 'big', '2.5'
flags('train --recipe', ['yosemit', "''"], '`recipe`', "'yosemite-quick'")
for flag in ('size','epochs','decay-epochs','bs','blocks','width','seed','save-every','workers'): flags(f'{train} --{flag}', not_whole, f'--{flag}', 'Invalid value')
for flag in ('lr','identity','ema'): flags(f'{train} --{flag}', ['big', '1/2'], f'--{flag}', 'Invalid value')
for flag,values in dict(size='0 -64 16 65 1000001'.split(), epochs=['-1'], decay_epochs=['-1'], bs='0 -4'.split(), blocks=['-1', '1000000'], width=['0', '-8', '1000000'], seed=['-1', '4294967296'],
                        lr='0 -1 nan inf'.split(), identity='-1 nan inf'.split(), ema='1 -1 nan inf'.split(), augment=['lots', "''", 'Full'], device=['abacus', 'cuda:99', "''"]).items():
    flags(f'train --data {{sample}} --{flag.replace("_", "-")}', values, f'`{flag}`')
line(f'{train} --bs 1000', '`bs`', 'pass another')
line(f'{train} --epochs 0 --decay-epochs 0', 'nothing to train')
line(f'{train} --sice 64', '--sice', 'No such option')
line(f'{train} photos', 'unexpected extra argument', 'photos')
line('train --data', '--data', 'requires an argument')
line('trian', 'trian', 'No such command')
line('train --resume --out void', '`void`', 'recipe.json')
line('train --data horse2zebr', "did you mean 'horse2zebra'")
line('train --data ./nowhere', 'nowhere', 'archive or a folder')
line("train --data ''", '`data`')
line('train --data x.zip', 'x.zip', 'Pass a zip', make=lambda: put('x.zip', 'hello'))
line('train --data evil.zip', "'../x'", 'unpack it yourself', make=lambda: archive('evil.zip', ('../x', 'x')))
line('train --data ftp://127.0.0.1/x', 'ftp://127.0.0.1/x', 'pass its path')
line('train --data .', '`.`', *layout)
line('train --data set --size 32 --bs 1', '3.png', '--skip-damaged', make=partial(two, '3.png', b'x'))
line(f'{train} --out file', '`file`', 'choose a folder', make=lambda: put('file', 'mine'))
line(f'{train} --out file/run', '`file', 'choose a folder', make=lambda: put('file', 'mine'))
line(f'{train} --out r', '`out` r', 'pass', make=partial(run_folder, recipe='{}'))
for name,text in no_recipe.items(): line(f'train --resume --out r   # {name}', 'r/recipe.json', make=partial(run_folder, recipe=text))
line('train --resume --out r --recipe horse2zebra', '`data` was \'seasons\'', 'start a new run', make=partial(run_folder, recipe='{}'))
line('train --resume --out r --size 32', '`size` was 64', 'start a new run', make=partial(run_folder, recipe='{}'))

translate = 'translate x.png --run {model}'
x = lambda: picture('x.png')
line('translate', 'Missing argument')
line('translate x.png --run nowhere', '`nowhere`', 'name the folder', 'comes with the package: summer2winter', make=x)
line('translate x.png --run runs/seasons', '`runs/seasons`', 'name the folder', make=x)
line('translate x.png   # beside a stopped run of the name', '--resume --out summer2winter', make=lambda: (x(), put('summer2winter/recipe.json', '{}')))
line('translate x.png   # beside a damaged model of the name', 'summer2winter/model.safetensors', 'is damaged', make=lambda: (x(), put('summer2winter/model.safetensors', 'hello, world'*9)))
line('translate nothing.png --run {model}', '`nothing.png`', 'Name image files')
line('translate photos --run {model}', '`photos`', '.jpg', make=lambda: put('photos/a.txt', 'a'))
line("translate '*.tiff' --run {model}", '`*.tiff`', '.jpg', make=x)
line("translate '[' --run {model}", '`[`', '.jpg', make=x)
line("translate '' --run {model}", '`sources`', make=x)
flags(f'{translate} --to', ['autumn', "''", 'Winter'], '`to`', "'summer' or 'winter'", make=x)
flags(f'{translate} --size', not_whole, '--size', 'Invalid value', make=x)
flags(f'{translate} --size', ['0', '3', '-64'], '`size`', '≥ 4', make=x)
flags(f'{translate} --device', ['abacus', 'cuda:99'], '`device`', "pass 'cpu'", make=x)
line(f'{translate} --out file', '`file` is a file', make=lambda: (x(), put('file', 'mine')))
for o in ('x.png', '**'): line(f"translate '{o}' --run {{model}} --out loop", '`loop` is a file or a broken link', make=lambda: (x(), os.symlink('loop', 'loop')))
line('translate photos --run {model} --out photos', '`out` must be another folder', make=lambda: picture('photos/x.png'))
for name in ('of no bytes','text','a pickle','an offset outside','of another program','no arch','a newer format'):
    data,says = no_model[name]
    line(f'translate x.png --run r   # {name}', 'r/model.safetensors', says, make=lambda data=data: (x(), run_folder(model=data)))
line('translate x.png --run r   # a pickle, not trusted', '`r/model.pkl`', '--trust', make=lambda: (x(), Path('r').mkdir(), torch.save(Forbidden(), 'r/model.pkl')))
line('translate x.png --run r   # stopped', '--resume --out r', make=lambda: (x(), put('r/recipe.json', '{}')))
line('translate x.png --run x.png', '`x.png`', '.safetensors', make=x)

flags('export {model} --format', ['word', "''", 'ONNX'], '`--format`', 'onnx')
flags('export {model} --format onnx --dtype', ['int4', "''"], '`dtype`', "'float32'")
flags('export {model} --format torchscript --dtype', ['int8'], '`dtype`', "'float32'")
line('export --out x', '`out` x', 'pass another', make=lambda: put('x', 'mine'))
line('export nothing', '`nothing`', 'name the folder')
line('export {model} --ort x', '`--ort` is for `--format web`', 'leave it out')
line('export {model} --format web --ort x', '`ort` x', 'leave it out')
line('export {model} --out x', '`out` x', 'pass another', make=lambda: put('x', 'mine'))
line('export {model} --out x/y', '`x`', 'choose a folder', make=lambda: put('x', 'mine'))
line('app nothing', '`nothing`', 'name the folder')
flags('app {model} --port', ['big', '1.5'], '--port', 'Invalid value')
flags('app {model} --port', ['0', '-1', '65536'], '`port`', 'pass')
flags('app {model} --host', ['192.0.2.1', '999.1.1.1'], '`host`')
flags('app {model} --max-mb', ['big'], '--max-mb', 'Invalid value')
flags('app {model} --max-mb', ['0', '-1', 'nan', 'inf'], '`max_mb`', 'such as')
line('app {model} --device abacus', '`device`', "pass 'cpu'")

line('evaluate', 'Missing argument')
line('evaluate nothing', '`nothing`', 'recipe.json')
line('evaluate r   # not trained', '`r`', 'train', make=partial(run_folder, recipe='{}'))
line('evaluate r   # a checkpoint of text', 'r/last.pth', 'damaged', make=partial(run_folder, recipe=json.dumps(dict(data=str(sample), size=32, blocks=1, width=4)), last__pth='hello'))
line('evaluate r --features vgg', '`features`', "'lite0', 'lite1', 'mobilenet', 'inception'", make=partial(run_folder, recipe='{}', last__pth='x'))
flags('evaluate r -n', ['big', '1.5'], '-n', 'Invalid value')
flags('evaluate r -n', ['0', '-1', '1'], '`n`', make=partial(run_folder, recipe='{}', last__pth='x'))
line('evaluate r --device abacus', '`device`', "pass 'cpu'", make=partial(run_folder, recipe=json.dumps(dict(data=str(sample))), last__pth='x'))

flags('bench --device cpu --rounds', ['0', '-1'], '`rounds`')
flags('bench --device cpu --steps', ['0', '-1'], '`steps`')
flags('bench --device cpu --quality --seeds', ['0', '-1'], '`seeds`')
flags('bench --size', ['65', '0'], '`size`')
flags('bench --quality --epochs', ['0', '-1'], 'epochs')
line('bench --device abacus', '`device`', "pass 'cpu'")

line('data fetsh', 'fetsh', 'No such command')
line('data fetch', 'Missing argument')
line('data fetch horse2zebr', "did you mean 'horse2zebra'")
line('data fetch x.zip', 'x.zip', 'Pass a zip', make=lambda: put('x.zip'))
line('data fetch evil.tar', 'a link or a device', 'unpack it yourself', make=lambda: linked_tar('evil.tar'))
line('data fetch horse2zebra --mirror here', '`mirrors`', "'here", 'http://')
line('data verify', 'Missing argument')
line('data verify nothing', 'nothing', 'archive or a folder')
line("data verify ''", '`source`', 'archive or a folder')
line('data verify x', 'x', 'two folders', make=lambda: Path('x').mkdir())
flags('data distances {sample} --size', ['65', '0', '-64'], '`size`')
line('data distances {sample} --features vgg', '`features`', "'lite0', 'lite1', 'mobilenet', 'inception'")
line('data distances {sample} --device abacus', '`device`', "pass 'cpu'")
for flag,values in {'n-train': ['0', '-1', '2000000'], 'n-test': ['-1'], 'size': ['0', '15', '100000'], 'seed': ['-1']}.items():
    flags(f'data seasons --out drawn --{flag}', values, f'`{flag.replace("-", "_")}`', 'pass')
line('data seasons --out mine', '`path`', 'pass another', make=lambda: put('mine/letter.txt', 'dear'))
line('data seasons --out mine/x', '`mine`', 'choose a folder', make=lambda: put('mine', 'dear'))

def call(monkeypatch, capfd, args):
    "Exit status, standard output and standard error of `main` as the console script runs it"
    monkeypatch.setattr(sys, 'argv', ['cyclegan-fastai', *args])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as e: cli.main(), sys.exit(0)
    return e.value.code or 0, *capfd.readouterr()

def args_of(text, world): return [o.format(sample=sample, model=world.model) for o in shlex.split(text, comments=True)]
def unframed(text): return re.sub(r'[╭╮╰╯│─]', ' ', text)

@pytest.mark.parametrize('text', lines)
def test_one_clear_line(world, bell, tmp_path, monkeypatch, capfd, text):
    code, words, make = lines[text]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '200')
    if make: make()
    before, start = state(tmp_path, world.home), time.perf_counter()
    bell(text)
    status, out, err = call(monkeypatch, capfd, args_of(text, world))
    check_message(unframed(err), words, time.perf_counter()-start)
    assert status==code and not out and 'Traceback' not in err
    assert not err.startswith('Error:') or err.count('\n')==1, 'one line'
    assert state(tmp_path, world.home)==before, 'nothing may be left behind'

@pytest.mark.parametrize('args,says', [(['train', '--size', '65'], '`size`'), (['train', '--resume', '--out', 'void'], 'recipe.json'), (['translate', 'x.png', '--run', b'no \xff'], 'name the folder'), (['sing'], 'No such command')])
def test_one_clear_line_of_a_real_process(tmp_path, args, says):
    "In a new process, its start included"
    env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1', 'COLUMNS': '200'}
    command = [sys.executable, '-m', 'cyclegan_fastai.cli', *args]
    start = time.perf_counter()
    res = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, errors='replace')
    seconds = time.perf_counter()-start
    check_message(unframed(res.stderr), [says], 0)
    print(f'{seconds:.2f} s; lost: nothing')
    assert res.returncode==2 and not res.stdout and 'Traceback' not in res.stderr and not list(tmp_path.iterdir())
    assert seconds<10*LIMIT, 'a hang: machines that do much else are slow to start Python'

def test_debug_shows_where(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['cyclegan-fastai', 'train', '--size', '65', '--debug'])
    with pytest.raises(ValueError, match='`size`'): cli.main()
