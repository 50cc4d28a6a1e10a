"Thousands of spoilt files and senseless calls, for a few seconds each: whatever comes, it's an answer or one clear error, and nothing hangs"
import io, json, os, random, resource, shutil, socket, struct, sys, time, warnings
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from cyclegan_fastai.cli import main as cli
from cyclegan_fastai.all import *
from cyclegan_fastai.data.landscape import Scene, draw_scene
from cyclegan_fastai.core.photo import DamagedImage, image_kinds, open_photo, to_rgb
from cyclegan_fastai.use.serverless import Service, make_event

LIMIT, MEMORY = 2, 400 # seconds and megabytes that one case may take

def spoilt(data, rng):
    "`data` with a few bytes flipped, cut out, doubled, overwritten or put elsewhere; what is near the beginning more often"
    data = bytearray(data)
    for _ in range(rng.choice([1,1,1,2,3,8])):
        if not data: break
        i = int(len(data)*rng.random()**rng.choice([1,4]))
        n = rng.choice([1,2,4,16,200])
        what = rng.randrange(7)
        if what==0: data[i] ^= 1 << rng.randrange(8)
        elif what==1: data[i:i+n] = bytes(rng.choice([0,255,127,128]) for _ in range(n))
        elif what==2: del data[i:]
        elif what==3: del data[i:i+n]
        elif what==4: data[i:i] = data[i:i+n]
        elif what==5: data[i:i+4] = rng.choice([b'\xff\xff\xff\xff', b'\0\0\0\0', b'\x7f\xff\xff\xff', b'\xff\xff\xff\x7f', b'\1\0\0\0'])
        else: data[i:i+n] = rng.randbytes(n)
    return bytes(data)

def kinds_of_pictures():
    "A landscape as every kind of file that Pillow writes and that counts as an image, and some special ones"
    im = draw_scene(Scene(seed=5), 'summer', 48)
    grey, clear = im.convert('L'), im.copy()
    clear.putalpha(grey)
    Image.init()
    files = {}
    for kind in Image.SAVE:
        if kind not in image_kinds(): continue                                        # some are written and never read
        for name,o in (('RGB',im), ('RGBA',clear), ('L',grey), ('P',im.quantize(16)), ('I;16',grey.convert('I').convert('I;16')), ('CMYK',im.convert('CMYK')), ('1',im.convert('1'))):
            try: o.save(f := io.BytesIO(), kind)
            except (OSError, KeyError, ValueError): continue                       # of no such mode
            files[f'{kind} {name}'] = f.getvalue()
    def save(name, **kwargs): im.save(f := io.BytesIO(), name.split()[0], **kwargs); files[name] = f.getvalue()
    exif = Image.Exif(); exif[274],exif[270] = 6,'a hill'
    save('JPEG progressive', progressive=True, exif=exif); save('PNG exif', exif=exif); save('WEBP lossless', lossless=True, exif=exif)
    for o in ('tiff_lzw','tiff_deflate','jpeg','packbits'): save(f'TIFF {o}', compression=o)
    for o in ('GIF','WEBP','PNG'): save(f'{o} film', save_all=True, append_images=[im.rotate(90), im.rotate(180)])
    return files

def test_spoilt_pictures(bell, tmp_path, capfd):
    files = kinds_of_pictures()
    assert len(files)>40 and {'JPEG RGB','PNG P','AVIF RGB','GIF film','TIFF tiff_lzw','BMP RGB','ICO RGBA','JPEG2000 RGB','TGA RGB'} & files.keys()
    fn, end, tried, opened, before = tmp_path/'x', time.monotonic()+8, 0, 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = random.Random(1)
    for o in files.values(): fn.write_bytes(o); open_photo(fn)                      # as they were made, they open
    while time.monotonic()<end:
        name = rng.choice(list(files))
        seed = rng.randrange(10**9)
        fn.write_bytes(spoilt(files[name], random.Random(seed)))
        start = time.perf_counter()
        bell((name, seed))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                assert to_rgb(open_photo(fn, max_pixels=10**7)).mode=='RGB'
            opened += 1
        except DamagedImage as e: assert f'`{fn}`' in str(e) and len(str(e))<600, (name, seed)
        except Exception as e: pytest.fail(f'{name}, seed {seed}: {type(e).__name__}: {e}')
        tried += 1
        assert time.perf_counter()-start<LIMIT, (name, seed)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before<MEMORY*1000, (name, seed)
    capfd.readouterr()                                                             # libtiff speaks for itself
    print(f'{tried} pictures of {len(files)} kinds, {opened} opened; lost: nothing')
    assert tried>300 and tried>opened>tried/20

nasty = '', ' ', '-', '--', '.', '~', '*', '**', '[', '[a', '{}', '%s', '$(id)', ';', '\\', '\n', 'a\nb', '\x1b[31m', '[bold]', '[/]', '🦓', 'ünï', '\udcff', 'x'*300, 'x'*5000, '-1', '0', '1', '3', '2.5', '1e999', \
    '99999999999999999999', 'nan', 'inf', '-inf', '٣', '0x10', 'true', 'None', 'A', 'winter', 'cpu', 'cuda:9', 'full', 'onnx', '/dev/null', '/dev/zero', '/proc/self/mem', 'ftp://127.0.0.1/x', 'file:///etc/passwd', 'http://', '://', \
    'x.png', 'text.txt', 'text.png', 'text.safetensors', 'empty.onnx', 'folder', 'pipe', 'loop', 'run', 'nowhere/x', 'x.png/y', '--help', '-h', '--json', '--debug', '--resume', '--trust', '--overwrite', '--size', '--out'
models = [o for o in nasty if not o.startswith('-')] # without a model, a command takes the one that comes with the package, and that is real work
verbs = { # what always stands there, so that nothing is trained, fetched or served; and what may
    'train': ('--data {} --epochs 1', '--recipe --size --epochs --decay-epochs --bs --blocks --width --lr --identity --consistency --dropout --up --ema --augment --device --seed --out --save-every --workers'),
    'train --resume': ('--out {}', '--data --size --epochs --bs --lr --seed --device'), 'translate': ('{}', '--run --to --size --out --device'), 'export': ('{model}', '--format --dtype --out --ort --trust'),
    'app': ('{model}', '--host --port --max-mb --device --trust'), 'evaluate': ('{}', '--data --features -n --device'), 'data': ('', ''), 'data list': ('', ''), 'data verify': ('{}', ''), 'data fetch': ('{}', ''),
    'data distances': ('{}', '--size --features --device'), 'data seasons': ('--n-train {} --n-test 0 --size 16 --out {}', '--seed'), '': ('{}', '--install'), 'bench': ('--rounds {} --steps 0', '--size --bs --width'), 'study': ('{}', '--out --data --epochs --decay-epochs --seeds --device')}

@pytest.fixture
def fenced(monkeypatch, tmp_path):
    "A folder; to train, or to touch the network, is a failure"
    def no(what): return lambda *args, **kwargs: pytest.fail(f'{what}: {sys.argv}', pytrace=False)
    monkeypatch.setattr(Learner, 'fit', no('training'))
    for o in ('connect','listen','connect_ex'): monkeypatch.setattr(socket.socket, o, no(o))
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('COLUMNS', '160')
    (here := tmp_path/'here').mkdir()
    monkeypatch.chdir(here)
    return here

def laid_out(here):
    "Odd things in the folder `here`, and nothing of what was made there"
    for o in here.iterdir(): shutil.rmtree(o) if o.is_dir() and not o.is_symlink() else o.unlink()
    Image.new('RGB', (20,16), 'teal').save('x.png')
    for o in ('text.txt','text.png','text.safetensors'): Path(o).write_text('hello')
    for o in ('folder','run'): Path(o).mkdir()
    Path('empty.onnx').touch(); Path('run/recipe.json').write_text('{"epochs": "many"}')
    os.mkfifo('pipe'); os.symlink('loop', 'loop')

def test_senseless_command_lines(bell, fenced, monkeypatch, capfd):
    rng, end, statuses = random.Random(2), time.monotonic()+12, {0: 0, 1: 0, 2: 0}
    while time.monotonic()<end:
        laid_out(fenced)                                                           # what one line makes is nothing that the next one finds
        verb = rng.choice(list(verbs))
        must, may = verbs[verb]
        args = [*verb.split(), *(rng.choice(nasty) if o=='{}' else rng.choice(models) if o=='{model}' else o for o in must.split())]
        for _ in range(rng.randrange(4)): args += [rng.choice(may.split() or ['--json'])] + [rng.choice(nasty)]*rng.choice([0,1,1,1])
        if rng.random()<.2: args += [rng.choice(nasty)]
        monkeypatch.setattr(sys, 'argv', ['cyclegan-fastai', *[o for o in args if o!='--debug']])
        start = time.perf_counter()
        bell(args)
        try:
            with warnings.catch_warnings(): cli.main()
            status = 0
        except SystemExit as e: status = e.code or 0
        except Exception as e: pytest.fail(f'{args}: {type(e).__name__}: {e}')
        out, err = capfd.readouterr()
        assert status in statuses, (args, status)
        assert 'Traceback' not in out+err and (not status or (out+err).strip()), args
        assert not list(fenced.glob('.*')), args
        assert statuses=={0: 0, 1: 0, 2: 0} or time.perf_counter()-start<LIMIT+3, args   # imports are not what is timed
        statuses[status] += 1
    print(f'{sum(statuses.values())} command lines: {statuses[0]} right, {statuses[1]+statuses[2]} refused; lost: nothing')
    assert statuses[2]>100 and statuses[0]>3

def mangled(x, rng):
    "A JSON value with one thing in it that is something else"
    odd = None, True, -1, 0, 3, 2**70, .5, float('nan'), '', 'x', 'x'*999, [], {}, [1], {'x': 1}, [[[]]]
    if isinstance(x, dict) and x and rng.random()<.85:
        x, k = dict(x), rng.choice(list(x))
        what = rng.random()
        if what<.15: del x[k]
        elif what<.3: x[rng.choice(['x','format','a',''])] = rng.choice(odd)
        else: x[k] = mangled(x[k], rng)
        return x
    if isinstance(x, list) and x and rng.random()<.7:
        i = rng.randrange(len(x))
        return [*x[:i], mangled(x[i], rng), *x[i+1:]]
    if isinstance(x, str) and x[:1]=='{' and rng.random()<.8:
        try: return json.dumps(mangled(json.loads(x), rng))                         # JSON within JSON
        except ValueError: pass
    return rng.choice(odd)

def until(seconds):
    "Random generators, each with a seed of its own, for a while"
    end, seed = time.monotonic()+seconds, 0
    while time.monotonic()<end: yield seed,random.Random(seed); seed += 1

def test_spoilt_models(bell, model_file, tmp_path):
    data, fn, loaded, n = model_file.read_bytes(), tmp_path/'model.safetensors', 0, 0
    size, = struct.unpack('<Q', data[:8])
    header, weights = json.loads(data[8:8+size]), data[8+size:]
    assert json.loads(header['__metadata__']['cyclegan_fastai'])['arch'], 'this is where the metadata are mangled'
    for seed,rng in until(6):
        if seed%3: text = json.dumps(mangled(header, rng)).encode(); new = struct.pack('<Q', len(text))+text+weights
        else: new = spoilt(data[:8+size], rng)+weights
        fn.write_bytes(new)
        start = time.perf_counter()
        bell(seed)
        try: t = Translator.load(fn, 'cpu'); t(Image.new('RGB', (16,16))); str(t); loaded += 1
        except ValueError as e: assert f'`{fn}`' in str(e) and len(str(e))<5000, seed
        except Exception as e: pytest.fail(f'seed {seed}: {type(e).__name__}: {e}')
        assert time.perf_counter()-start<LIMIT, seed
        n += 1
    print(f'{n} models, {loaded} loaded; lost: nothing')
    assert n>150 and 0<loaded<n

def test_spoilt_recipes(tmp_path):
    fn, text, loaded, n = tmp_path/'recipe.json', json.dumps(asdict(Recipe()), indent=1).encode(), 0, 0
    for seed,rng in until(2):
        fn.write_bytes(json.dumps(mangled(asdict(Recipe()), rng)).encode() if seed%2 else spoilt(text, rng))
        try: assert isinstance(load_recipe(tmp_path), Recipe); loaded += 1
        except ValueError as e: assert f'`{fn}`' in str(e) and '\n' not in str(e), seed
        except Exception as e: pytest.fail(f'seed {seed}: {type(e).__name__}: {e}')
        n += 1
    assert n>300 and 0<loaded<n

def test_spoilt_requests(model_file, capfd):
    service, n, statuses = Service(model_file.parent), 0, set()
    Image.new('RGB', (16,16), 'teal').save(f := io.BytesIO(), 'PNG')
    json_body = lambda: {**make_event(kind='application/json'), 'isBase64Encoded': False, 'body': json.dumps(dict(image=make_event(f.getvalue())['body'], to='winter', size=16, format='png'))}
    for seed,rng in until(3):
        event = rng.choice([lambda: make_event(spoilt(f.getvalue(), rng), to='summer', size=20), lambda: mangled(make_event(f.getvalue(), format='jpeg'), rng), lambda: mangled(json_body(), rng),
                            lambda: make_event(f.getvalue(), rng.choice(['GET','POST','PUT','','OPTIONS']), rng.choice(nasty), to=rng.choice(nasty), size=rng.choice(nasty))])()
        start = time.perf_counter()
        res = service(event)
        log = capfd.readouterr().err
        assert res['statusCode'] in (200, 204, 400, 405, 413, 415) and 'Traceback' not in log, (seed, res['statusCode'], log)
        assert time.perf_counter()-start<LIMIT, seed
        statuses.add(res['statusCode']); n += 1
    assert n>200 and {200,400}<=statuses
