"What the numbers of deep images mean: one range for a set, given or measured, and known wherever its model is used"
import json
from dataclasses import replace

import numpy as np, pytest, torch
from PIL import Image, TiffImagePlugin
from typer.testing import CliRunner

from cyclegan_fastai.cli.main import app
from cyclegan_fastai.core.checks import OptionError
from cyclegan_fastai.core.photo import as_photo, left_out, to_rgb
from cyclegan_fastai.data.files import open_image
from cyclegan_fastai.data.inspect import verify_unpaired
from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.run.experiment import evaluate_run, run_experiment
from cyclegan_fastai.run.recipe import SMALL, load_recipe
from cyclegan_fastai.use.engines import TorchEngine
from cyclegan_fastai.use.translator import Translator

ramp = np.linspace(0, 1, 32)[None].repeat(32, 0)
kinds = {'12 bits in 16': (0, 4095, np.uint16), 'to 256': (0, 256, np.uint16), 'floats': (0, 1.01, np.float32),
         'Hounsfield units': (-1000, 2000, np.float32), 'integers of 32 bits': (0, 100_000, np.int32)}

def deep_set(folder, lo, hi, kind, dark=0, n=3, noise=0):
    "Horizontal ramps over the whole range; the first `dark` of domain A use a fiftieth of it"
    rng = np.random.default_rng(0)
    for split in ('trainA','trainB','testA','testB'):
        (folder/split).mkdir(parents=True)
        for i in range(n):
            top = .02 if split=='trainA' and i<dark else 1
            x = (ramp+noise*rng.random(ramp.shape)).clip(0, 1)
            x[0] = ramp[0]
            Image.fromarray((lo+(hi-lo)*top*x).astype(kind)).save(folder/split/f'{i}.tif')
    return folder

@pytest.mark.parametrize('name', kinds)
def test_a_set_has_one_range(name, tmp_path):
    lo, hi, kind = kinds[name]
    folder = deep_set(tmp_path, lo, hi, kind, dark=1)
    with pytest.warns(UserWarning) as w: dls = UnpairedDataLoaders.from_folder(folder, size=32, load=32, bs=3, aug_tfms=[])
    said = [str(o.message) for o in w if 'black' in str(o.message) or 'range' in str(o.message)]
    assert len(said)==2 and '0.tif' in said[1] and said[1].count('`')==2, 'the dark file is named, and no other'
    assert dls.value_range==pytest.approx((lo, hi)) and dls.valid.value_range==dls.value_range
    for x in (dls.valid.one_batch()[1], dls.one_batch()[1]):
        assert torch.allclose(x[0,0,0].cpu().float(), torch.linspace(-1, 1, 32), atol=.02)
    dark = min(dls.train.dataset[i][0].convert('L').getextrema()[1] for i in range(3))
    assert dark==pytest.approx(.02*255, abs=1.5), 'one scale for all files, and not one for each'
    found = verify_unpaired(folder)
    assert [(f.name,p) for f,p in found[['file','problem']].values if p=='values']==[('0.tif','values')]

def test_a_range_is_given(tmp_path):
    folder = deep_set(tmp_path, -1000, 2000, np.float32)
    for o in ((-1000,3000), '-1000,3000'):
        dls = UnpairedDataLoaders.from_folder(folder, size=32, load=32, bs=1, aug_tfms=[], value_range=o)
        assert dls.value_range==(-1000,3000) and dls.valid.one_batch()[0].max().item()==pytest.approx(.5, abs=.01)
    found = verify_unpaired(folder, (0,1000))
    assert set(found.problem[found.problem!='duplicate'])=={'values'} and 'from -1000 to 2000, where 0 is black and 1000 white' in found.detail[0]
    for o in ('x', '1', (2,1), (1,1), (0,float('nan')), 5):
        with pytest.raises(OptionError, match='`value_range` must be two numbers'): UnpairedDataLoaders.from_folder(folder, value_range=o)

def test_eight_bits_need_no_range(tmp_path):
    folder = deep_set(tmp_path, 0, 200, np.uint8)
    dls = UnpairedDataLoaders.from_folder(folder, size=32, load=32, bs=1, aug_tfms=[])
    assert dls.value_range is None and dls.valid.one_batch()[0].max().item()==pytest.approx(200/127.5-1, abs=.01)

def test_nothing_is_guessed_file_by_file(tmp_path):
    "Without a range the type decides, for every file alike"
    for x,most in (((ramp*65535).astype(np.uint16), 255), (ramp.astype(np.float32), 255)):
        assert to_rgb(Image.fromarray(x)).getextrema()[0]==(0,most)
    with pytest.warns(UserWarning, match='from 0 to 255, which is nearly black where 65535'): x = to_rgb(Image.fromarray((ramp*255).astype(np.uint16)))
    assert x.getextrema()[0]==(0,1)
    Image.fromarray((3000*ramp-1000).astype(np.float32)).save(tmp_path/'ct.tif')
    with pytest.raises(OptionError, match=r"ct.tif`: .*from -1000 to 2000.*pass `value_range='-1000,2000'`"): open_image(tmp_path/'ct.tif')
    assert open_image(tmp_path/'ct.tif', '-1000,2000').getextrema()[0]==(0,255)

class Same(torch.nn.Module):
    def forward(self, x): return x

def test_a_model_knows_its_range(tmp_path):
    folder = deep_set(tmp_path/'set', 0, 4095, np.uint16)
    with pytest.warns(UserWarning): dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=1)
    learn = cyclegan_learner(dls, n_blocks=0, nf=4)
    t = learn.translator()
    assert t.value_range==(0,4095)
    t.save(tmp_path/'model.safetensors')
    assert Translator.load(tmp_path/'model.safetensors').value_range==(0,4095)
    assert Translator.load(tmp_path/'model.safetensors', value_range='0,255').value_range==(0,255)
    same = Translator(dict(B=TorchEngine(Same(), 'cpu')), ('A','B'), value_range=(0,4095))
    half = Image.fromarray(np.full((32,32), 2048, np.uint16))
    assert same(half).getpixel((0,0))==(128,)*3 and same(half, size=16).getpixel((0,0))==(128,)*3
    assert same(Image.fromarray(np.full((32,32,3), 7, np.uint8))).getpixel((0,0))==(7,)*3, 'eight bits stay as they are'

def test_a_run_keeps_its_range(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = replace(SMALL, data=str(deep_set(tmp_path/'set', 0, 4095, np.uint16, n=4, noise=.3)), size=32, epochs=1, decay_epochs=1, bs=1, blocks=0, width=4)
    with pytest.warns(UserWarning): res = run_experiment(tiny, 'run', device='cpu')
    assert load_recipe('run').value_range=='0,4095'==res['recipe']['value_range']
    assert Translator.load('run').value_range==(0,4095)
    other = deep_set(tmp_path/'other', 0, 65535, np.uint16, n=4, noise=.3)
    with pytest.warns(UserWarning, match='beyond the range'): evaluate_run('run', data=str(other), features='lite0', device='cpu')
    run = CliRunner().invoke(app, ['train','--resume','--out','run','--value-range','0,255'])
    assert run.exit_code and "`value_range` was '0,4095'" in str(run.exception)

def test_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deep_set(tmp_path/'set', 0, 4095, np.uint16, dark=1)
    run = lambda *args: CliRunner().invoke(app, [*map(str, args)])
    rows = json.loads(run('data','verify','set','--json').stdout)
    assert [o['file'] for o in rows if o['problem']=='values']==['trainA/0.tif']
    rows = json.loads(run('data','verify','set','--value-range','0,100','--json').stdout)
    assert sum(o['problem']=='values' for o in rows)==11, 'all but the dark one'
    Image.fromarray((4095*ramp).astype(np.uint16)).save('x.png')
    sizes = []
    for i,o in enumerate([(), ('--value-range','0,4095')]):
        res = run('translate','x.png','--out',f'out{i}',*o)
        assert res.exit_code==0, res.output
        sizes.append(np.asarray(Image.open(next((tmp_path/f'out{i}').rglob('*.png')))).std())
    assert sizes[1]>2*sizes[0], 'without a range the picture is nearly black'

# What a network doesn't see

def tiff(fn, x, extra, bits=8):
    "An uncompressed TIFF, (h, w, bands), with any tag for what its further bands are"
    h, w, n = x.shape
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    data = x.astype(f'<u{bits//8}').tobytes()
    for tag,v in {256: w, 257: h, 258: (bits,)*n, 259: 1, 262: 2, 277: n, 278: h, 279: len(data), 284: 1}.items(): ifd[tag] = v
    if extra is not None: ifd[338] = extra
    ifd[273] = 0
    fn.write_bytes(b'II*\0\x08\0\0\0'+ifd.tobytes(8)+data)                         # Pillow adds the length of the tags to 273
    return fn

def test_bands_and_bits_that_are_not_read(tmp_path):
    x = np.full((8,8,5), 90)
    x[...,3:] = 10
    assert left_out(tiff(tmp_path/'near infrared.tif', x[...,:4], (0,)))==dict(bands='4 bands, of which 3 are read')
    assert left_out(tiff(tmp_path/'five.tif', x, (0,0)))==dict(bands='5 bands, of which 3 are read')
    assert left_out(tiff(tmp_path/'deep.tif', x[...,:3], None, 16))==dict(bits='16 bits a colour, of which 8 are read')
    assert left_out(tiff(tmp_path/'plain.tif', x[...,:3], None))=={}
    for o in ('near infrared','five','plain'): assert open_image(tmp_path/f'{o}.tif').getpixel((0,0))==(90,)*3
    with pytest.warns(UserWarning, match='near infrared.tif` holds 4 bands, of which 3 are read'): as_photo(tmp_path/'near infrared.tif')

def test_transparency_is_said(tmp_path):
    "TIFF writers call a fourth band transparency where nobody says what it is: dark water becomes white"
    folder = deep_set(tmp_path, 0, 255, np.uint8)
    x = np.full((8,8,4), 90)
    x[...,3] = 10
    tiff(folder/'trainA'/'x.tif', x, (2,))
    with pytest.warns(UserWarning, match='hold more than the networks see: 1: `.*x.tif` .transparency, which is laid on white'):
        UnpairedDataLoaders.from_folder(folder, size=32, bs=1)
    found = verify_unpaired(folder)
    assert [(f.name,p) for f,p in found[['file','problem']].values if p=='transparency']==[('x.tif','transparency')]
