"The serverless function: the exported folder in processes of its own, with events of every kind; its page in a browser"
import base64, io, json, os, random, re, shutil, subprocess, sys, threading
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from urllib.parse import parse_qsl, urlsplit

import numpy as np, pytest
from packaging.requirements import Requirement
from PIL import Image
from cyclegan_fastai.use.translator import Translator
from cyclegan_fastai.use.deploy import export_lambda
from cyclegan_fastai.use.serverless import PAYLOAD, Service, make_event

pytest.importorskip('onnxscript', reason='no ONNX exporter: install the extra [onnx]')

script = '''import sys
known = set(sys.modules)
import json, handler, cyclegan_fastai
res = [handler.handler(o, None) for o in json.load(sys.stdin)]
new = {o.split('.')[0] for o in set(sys.modules)-known} - sys.stdlib_module_names
json.dump(dict(answers=res, package=cyclegan_fastai.__file__, modules=sorted(new)), sys.stdout)'''

@pytest.fixture(scope='session')
def folder(translator, tmp_path_factory): return export_lambda(translator, tmp_path_factory.mktemp('serverless')/'lambda')

@pytest.fixture(scope='session')
def original(folder): return Translator.load(folder/'models')

def process(folder, events, code=script, **env):
    "What a new process answers that sees the folder and nothing else of this project; and its log"
    env = {k: v for k,v in os.environ.items() if not k.startswith('PYTHON')} | dict(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE='1') | env
    res = subprocess.run([sys.executable, '-c', code], input=json.dumps(events), env=env, cwd=folder, capture_output=True, text=True)
    assert not res.returncode, res.stderr
    return json.loads(res.stdout), res.stderr

def answers(folder, events, **env):
    "Answer for each event of a dict, all of one process"
    got,log = process(folder, list(events.values()), **env)
    for o in got['answers']: well_formed(o, folder)
    return dict(zip(events, got['answers'])), log

def well_formed(res, folder=None):
    "What API Gateway understands, and nothing of the server in it"
    assert set(res)=={'statusCode','headers','body','isBase64Encoded'}
    assert type(res['statusCode']) is int and type(res['body']) is str and type(res['isBase64Encoded']) is bool
    assert all(type(k) is str and type(v) is str for k,v in res['headers'].items()) and len(res['body'])<=PAYLOAD
    assert res['headers']['content-type'].startswith('image/')==res['isBase64Encoded']
    if res['statusCode']<400: return
    error = json.loads(res['body'])
    assert list(error)==['error'] and error['error'] and '\n' not in error['error'] and len(error['error'])<400
    assert not re.search(r'Traceback|File "|\.py|object at 0x|site-packages', res['body']) and str(folder) not in res['body']

def error(res): return res['statusCode'],json.loads(res['body'])['error']
def pixels(res): assert res['statusCode']==200, res['body']; return np.array(Image.open(io.BytesIO(base64.b64decode(res['body']))))

def picture(h=40, w=52, mode='RGB', seed=0):
    n = len(Image.new(mode, (1,1)).getbands())
    x = np.random.default_rng(seed).integers(0, 256, (h//4,w//4,n), dtype=np.uint8).squeeze()
    return Image.fromarray(x, mode=None).resize((w,h))

def content(im, kind='PNG', **kwargs): f = io.BytesIO(); im.save(f, kind, **kwargs); return f.getvalue()
def b64(data): return base64.b64encode(data).decode()
def as_json(version=2, kind='application/json', **body):
    event = make_event(b'', kind=kind, version=version)
    return event | dict(body=json.dumps(body), isBase64Encoded=False)

# Good requests

def test_pixels_are_those_of_the_translator(folder, original):
    im, clear, exif = picture(), picture(mode='RGBA', seed=1), Image.Exif()
    exif[274] = 6                                                                    # "turn me a quarter clockwise"
    sideways = content(im, 'JPEG', exif=exif)
    shouting = make_event(content(im, 'JPEG'), kind='IMAGE/JPEG; q=1', to='summer')
    shouting['headers'] = {k.upper(): v for k,v in shouting['headers'].items()}
    url = f'data:image/png;base64,{b64(content(im))}'
    lines = '\n'.join(re.findall('.{1,76}', b64(content(im))))                       # as `base64` prints it
    cases = {
        'v2': (make_event(content(im)), im, {}), 'v1': (make_event(content(im), version=1), im, {}),
        'to winter': (make_event(content(im), to='winter'), im, dict(to='winter')),
        'to summer': (make_event(content(im), to='summer'), im, dict(to='summer')),
        'size': (make_event(content(im), size=24, version=1), im, dict(size=24)), 'larger': (make_event(content(im), size=99), im, dict(size=99)),
        'json': (as_json(image=b64(content(im)), to='summer', size=20), im, dict(to='summer', size=20)),
        'json v1': (as_json(1, image=b64(content(im))), im, {}),
        'json of no kind': (as_json(kind='', image=b64(content(im))), im, {}), 'data url': (as_json(image=url), im, {}),
        'lines': (as_json(image=lines), im, {}),
        'json in base64': (make_event(json.dumps(dict(image=url, to='summer')).encode(), kind='application/json'), im, dict(to='summer')),
        'query before json': (as_json(image=url, to='winter', size=8) | dict(queryStringParameters=dict(to='summer')), im, dict(to='summer', size=8)),
        'nulls': (as_json(image=url, to=None, size=None, format=None) | dict(queryStringParameters=None), im, {}),
        'capitals': (shouting, Image.open(io.BytesIO(content(im, 'JPEG'))), dict(to='summer')),
        'octets': (make_event(content(im), kind='application/octet-stream'), im, {}),
        'no headers': (make_event(content(im)) | dict(headers=None), im, {}),
        'alpha': (make_event(content(clear)), clear, {}), 'grey': (make_event(content(picture(mode='L'))), picture(mode='L'), {}),
        'sideways': (make_event(sideways), Image.open(io.BytesIO(sideways)), {}), 'odd': (make_event(content(picture(41, 67))), picture(41, 67), {}),
        'gif': (make_event(content(im, 'GIF')), Image.open(io.BytesIO(content(im, 'GIF'))), {}),
        'webp': (make_event(content(im, 'WEBP', lossless=True)), im, {}),
        'tiny': (make_event(content(picture(4, 4))), picture(4, 4), {}),
    }
    got,log = answers(folder, {k: v[0] for k,v in cases.items()})
    assert not log
    for k,(_,im,options) in cases.items():
        true = np.array(original(im, **options))
        assert pixels(got[k]).shape==true.shape and (pixels(got[k])==true).all(), k
        assert got[k]['headers']['content-type']=='image/png'
    assert pixels(got['sideways']).shape==(52,40,3) and pixels(got['alpha']).shape==(40,52,4)
    assert (pixels(got['to winter'])!=pixels(got['to summer'])).any()

def test_formats_of_the_answer(folder, original):
    im, clear, profile = picture(), picture(mode='RGBA', seed=1), b'a profile'*20
    kinds = [(k, x, o) for k,x in (('rgb',im), ('alpha',clear)) for o in ('png','jpeg','webp')]
    got,_ = answers(folder, {(k, o): make_event(content(x, icc_profile=profile), format=o) for k,x,o in kinds})
    for (k,o),res in got.items():
        assert res['headers']['content-type']==f'image/{o}'
        file = Image.open(io.BytesIO(base64.b64decode(res['body'])))
        assert file.format==o.upper() and file.info['icc_profile']==profile
        true = original(im if k=='rgb' else clear)
        if o=='jpeg' and k=='alpha': true = Image.alpha_composite(Image.new('RGBA', true.size, 'white'), true).convert('RGB')
        true = Image.open(io.BytesIO(content(true, o, **dict(png={}, jpeg=dict(quality=92), webp=dict(quality=90))[o])))
        assert (np.array(true)==pixels(res)).all()

def test_get_and_options(folder):
    events = dict(get=make_event(method='GET'), v1=make_event(method='get', version=1), options=make_event(method='OPTIONS'),
                  page=make_event(method='GET') | dict(headers={'Accept': 'text/html,*/*'}), bad=make_event())
    got,_ = answers(folder, events)
    info = json.loads(got['get']['body'])
    assert info==dict(domains=['summer','winter'], to=['summer','winter'], size=32, formats=['png','jpeg','webp'],
                      limits=dict(bytes=PAYLOAD*3//4, pixels=2**18))
    assert got['v1']==got['get'] and got['options']['statusCode']==204 and got['options']['body']==''
    assert got['page']['body']==(folder/'index.html').read_text(encoding='utf-8') and got['page']['headers']['content-type'].startswith('text/html')
    assert not [k for o in got.values() for k in o['headers'] if k=='access-control-allow-origin']
    got,_ = answers(folder, events, ALLOW_ORIGIN='https://example.org')
    assert {o['headers']['access-control-allow-origin'] for o in got.values()}=={'https://example.org'}, 'errors too, or a page could not show them'
    assert 'POST' in got['options']['headers']['access-control-allow-methods']

def test_no_more_than_three_packages(folder):
    got,_ = process(folder, [make_event(content(picture())), make_event(b'<html>')])
    assert [o['statusCode'] for o in got['answers']]==[200, 400]
    assert got['package']==str(folder/'cyclegan_fastai'/'__init__.py')
    optional = {'defusedxml','olefile'}                                              # of Pillow, used where they happen to be
    assert set(got['modules'])-optional=={'cyclegan_fastai','handler','numpy','PIL','onnxruntime'}

# Bad ones

def bomb(w, h):
    "A PNG that claims to be larger than it is"
    import struct, zlib
    chunk = lambda kind,data: struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(b'\0'*100)) + chunk(b'IEND', b'')

def test_bad_requests(folder):
    good, png, text = content(picture()), make_event(content(picture())), dict(isBase64Encoded=False)
    cases = {
        'empty': (make_event(), 400, '`image` is empty'), 'no body': (make_event() | dict(body=None), 400, '`image` is empty'),
        'json without image': (as_json(to='winter'), 400, '`image` is empty'),
        'empty data url': (as_json(image='data:image/png;base64,'), 400, '`image` is empty'),
        'not an image': (make_event(b'<html>hello'), 400, 'no image that can be read here: send one of PNG'),
        'postscript': (make_event(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'), 400, 'no image that can be read here'),
        'truncated': (make_event(good[:len(good)//2]), 400, "`image` can't be read as an image"),
        'header only': (make_event(bomb(64, 64)), 400, "`image` can't be read"),
        'not base64': (png | dict(body='%%%'), 400, "isn't base64"), 'not base64 in json': (as_json(image='photo.jpg'), 400, "isn't base64"),
        'other letters': (as_json(image='ä'*8), 400, "isn't base64"),
        'percent-encoded': (as_json(image='data:image/png,%89PNG'), 400, "isn't base64"),
        'no json': (as_json() | dict(body='{"image": '), 400, 'no JSON object'), 'a list': (as_json() | dict(body='[1]'), 400, 'no JSON object'),
        'deep': (as_json() | dict(body='{"image":'+'['*100_000), 400, 'no JSON object'),
        'a number': (as_json(image=3), 400, '`image` must be base64 in a string, got 3'),
        'mangled': (png | text | dict(body='\ufffdPNG'), 400, 'its bytes are lost'),
        'half a letter': (png | text | dict(body='\ud800'), 400, 'its bytes are lost'),
        'bytes': (make_event(bytes(PAYLOAD*3//4+3)), 413, 'the body has 6.0 MB, and Lambda carries 6'),
        'pixels': (make_event(content(Image.new('1', (20_000,2_000)))), 413, 'more than 25 megapixels'),
        'bomb': (make_event(bomb(50_000, 50_000)), 413, 'more than 25 megapixels'),
        'largest bomb': (make_event(bomb(2**31-1, 2**31-1)), 413, 'more than 25 megapixels'),
        'large': (make_event(content(Image.new('L', (1200,900)))), 413,
                  '1200×900 pixels, too many to be translated as it is (more than 262144): `size=443` is the most'),
        'large size': (png | dict(queryStringParameters=dict(size='700')), 413,
                       '`size` 700 makes too large a result (more than 262144): `size=448` is the most'),
        'thin': (make_event(content(Image.new('L', (100_000,1)))), 413, 'too long and thin'),
        'domain': (png | dict(queryStringParameters=dict(to='autumn')), 400, "`to` must be 'summer' or 'winter', got 'autumn'"),
        'domain in json': (as_json(image=b64(good), to=['winter']), 400, "`to` must be 'summer' or 'winter', got ['winter']"),
        'long domain': (png | dict(queryStringParameters=dict(to='x'*9999)), 400, 'xxx...'),
        **{f'size {o}': (png | dict(queryStringParameters=dict(size=o)), 400, '`size` must be a whole number of at least 4')
           for o in ('', '3', '-8', 'big', '1e2', '64.0', '9'*5000, '٣٢')},
        **{f'size {o!r} in json': (as_json(image=b64(good), size=o), 400, '`size` must be a whole number of at least 4')
           for o in (0, -1, 64.5, True, [], 10**30)},
        'format': (png | dict(queryStringParameters=dict(format='bmp')), 400, "`format` must be one of png, jpeg, webp, got 'bmp'"),
        'format in json': (as_json(image=b64(good), format={}), 400, '`format` must be one of png'),
        **{o: (make_event(good, kind=o), 415, 'the content type is')
           for o in ('text/plain','application/x-www-form-urlencoded','multipart/form-data; boundary=x')},
        **{o: (make_event(good, method=o), 405, "isn't answered here") for o in ('PUT','DELETE','HEAD','BREW')},
        'no request': ({'key1': 'value1'}, 400, 'no HTTP request'), 'nothing': (None, 400, 'no HTTP request'), 'list': ([1], 400, 'no HTTP request'),
    }
    got,log = answers(folder, {k: v[0] for k,v in cases.items()})
    for k,(_,status,says) in cases.items():
        assert error(got[k])[0]==status and says in error(got[k])[1], (k, got[k]['body'])
    assert got['PUT']['headers']['allow']=='GET, OPTIONS, POST'
    assert 'Traceback' not in log

def test_the_size_named_in_an_error_fits_and_one_more_does_not(folder):
    for w,h in ((1200,900), (513,512), (300,5000), (40_000,40)):
        data = content(Image.new('L', (w,h)))
        fits = int(re.search('`size=([0-9]+)`', error(Service(folder/'models')(make_event(data)))[1])[1])
        got,_ = answers(folder, {o: make_event(data, size=o) for o in (fits, fits+1)})
        assert got[fits]['statusCode']==200 and got[fits+1]['statusCode']==413
        assert pixels(got[fits]).shape[0]*pixels(got[fits]).shape[1] <= 2**18

def test_a_result_that_lambda_cannot_carry(folder):
    "A JPEG with a colour profile of 4.4 MB; the result keeps the profile"
    im = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512,512,3), dtype=np.uint8))
    profile = np.random.default_rng(1).bytes(4_400_000)
    event = make_event(content(im, 'JPEG', quality=10, icc_profile=profile))
    assert len(event['body'])<PAYLOAD
    got,_ = answers(folder, dict(png=event))
    assert error(got['png'])==(413, 'the result has more than the 6 MB that Lambda carries: ask for `format=webp` or less `size`')

def nonsense(rng, depth=0):
    "Anything that JSON can hold"
    words = 'image to size format http method accept content-type x'.split()
    kinds = [lambda: None, lambda: rng.choice((True, False)), lambda: rng.choice((0, -1, 1e300, float('nan'), 7)),
             lambda: ''.join(rng.choices('{}[]",:=/%\n\0äa9+-', k=rng.randint(0, 30)))]
    if depth<3: kinds += [lambda: [nonsense(rng, depth+1) for _ in range(rng.randint(0, 3))],
                          lambda: {rng.choice(words): nonsense(rng, depth+1) for _ in range(rng.randint(0, 4))}]
    return rng.choice(kinds)()

def test_nonsense_is_answered(folder):
    rng, events = random.Random(0), {}
    good = [make_event(content(picture()), version=1, to='winter'), make_event(content(picture()), method='GET'),
            as_json(image=b64(content(picture())), to='summer')]
    for i in range(120):
        event = json.loads(json.dumps(rng.choice(good)))
        for _ in range(rng.randint(1, 3)): event[rng.choice((*event, 'httpMethod'))] = nonsense(rng)
        if rng.random()<.3: event['body'],event['isBase64Encoded'] = json.dumps(nonsense(rng)),False
        events[i] = nonsense(rng) if i%10==0 else event
    got,_ = answers(folder, events)
    found = {o['statusCode'] for o in got.values()}
    assert 500 not in found and {200, 400, 405} <= found

def test_damaged_files_are_answered(folder):
    rng, files = np.random.default_rng(0), [content(picture(), o) for o in ('PNG','JPEG','WEBP','GIF','BMP','TIFF')]
    events = {}
    for i in range(90):
        data = np.frombuffer(files[i%6], dtype=np.uint8).copy()
        data[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8)
        events[i] = make_event(data.tobytes()[:int(rng.integers(len(data)//2, len(data)+1))])
    got,_ = answers(folder, events)
    found = {o['statusCode'] for o in got.values()}
    assert 500 not in found and {200, 400} <= found

# A container's life

def test_warm_containers_remember_nothing(folder):
    a, b, bad = make_event(content(picture())), make_event(content(picture(64, 40, seed=5)), to='summer', format='webp'), make_event(b'x')
    got,_ = answers(folder, dict(enumerate((a, b, bad, as_json(image=3), None, a, b, a))))
    assert got[0]==got[5]==got[7]!=got[1] and got[1]==got[6]

def test_settings_of_the_environment(folder):
    large, small = make_event(content(picture(80, 80))), make_event(content(picture()))
    got,_ = answers(folder, dict(large=large, small=small), MAX_PIXELS='4096')
    assert error(got['large'])[0]==413 and '(more than 4096): `size=64`' in got['large']['body'] and got['small']['statusCode']==200
    for wrong in ('many', '0', '9999999'):
        got,log = answers(folder, dict(small=small), MAX_PIXELS=wrong)
        assert got['small']['statusCode']==500 and f'(MAX_PIXELS) must be from 256 to 1048576, got {wrong}' in log

def test_a_model_that_is_missing(folder, tmp_path):
    "The log says where; outside one learns nothing; and it is looked for again"
    copy = shutil.copytree(folder, tmp_path/'copy')
    (copy/'models').rename(copy/'away')
    code = '''import handler, json, os, sys
events = json.load(sys.stdin)
res = [handler.handler(o) for o in events]
os.rename('away', 'models')
json.dump(res + [handler.handler(o) for o in events], sys.stdout)'''
    got,log = process(copy, [make_event(content(picture()))], code)
    assert error(got[0])==(500, "something is wrong here, and not with what you sent: the function's log says what")
    assert str(copy/'models') in log and got[1]['statusCode']==200
    well_formed(got[0], copy)

def test_a_damaged_model(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path/'copy')
    for o in (copy/'models').iterdir(): o.write_bytes(o.read_bytes()[:1000])
    got,log = answers(copy, dict(a=make_event(content(picture()))))
    assert error(got['a'])[0]==500 and 'is damaged' in log

# The folder

def test_files_fit_together(folder, root):
    docker = (folder/'Dockerfile').read_text()
    python = re.search(r'^FROM public\.ecr\.aws/lambda/python:([\d.]+)$', docker, re.M)[1]
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini', encoding='utf-8')
    assert tuple(map(int, python.split('.'))) >= tuple(map(int, cfg['DEFAULT']['min_python'].split('.')))
    copied = {o.rstrip('/') for line in re.findall('^COPY (.*) ', docker, re.M) for o in line.split()}
    assert {o.name for o in folder.iterdir()}==copied | {'Dockerfile','README.md','event.json'}, 'what is copied is there, and the other way round'
    assert 'pip install --no-cache-dir -r requirements.txt' in docker and docker.endswith('CMD ["handler.handler"]\n')
    reqs = {o.name: o for o in map(Requirement, (folder/'requirements.txt').read_text().split())}
    assert set(reqs)=={'onnxruntime','numpy','pillow'}
    for k,o in reqs.items(): assert [s.operator for s in o.specifier]==['>='] and o.specifier.contains(version(k))
    ours = next(o for o in map(Requirement, cfg['DEFAULT']['requirements'].split()) if o.name=='pillow')
    assert ours.specifier==reqs['pillow'].specifier
    copied = [o for o in (folder/'cyclegan_fastai').rglob('*') if o.is_file()]
    assert len(copied)>=11
    for o in copied: assert o.read_bytes()==(root/o.relative_to(folder)).read_bytes()

def test_readme_and_example(folder, original):
    text = (folder/'README.md').read_text(encoding='utf-8')
    assert 'TARGET' not in text and '?to=winter' in text and '\n## summer ↔ winter\n' in text
    assert text.startswith('# ') and '\n# ' not in text and '\n---\n' not in text
    event = json.loads((folder/'event.json').read_text())
    got,_ = answers(folder, dict(example=event))
    assert pixels(got['example']).shape==(32,32,3)
    assert (pixels(got['example'])==np.array(original(Image.open(io.BytesIO(base64.b64decode(event['body'])))))).all()

def test_one_direction_with_a_name_of_two_words(translator, tmp_path):
    one = Translator({'an old painting': translator.engines['winter']}, ('photo','an old painting'), 32)
    made = export_lambda(one, tmp_path/'one', 'int8')
    assert '?to=an%20old%20painting&' in (made/'README.md').read_text(encoding='utf-8')
    data = content(picture())
    got,_ = answers(made, dict(to=make_event(data, to='an old painting'), back=make_event(data, to='photo'), get=make_event(method='GET')))
    assert (pixels(got['to'])==np.array(Translator.load(made/'models')(picture()))).all()
    assert error(got['back'])==(400, "`to` must be 'an old painting', got 'photo'")
    assert json.loads(got['get']['body'])['to']==['an old painting']

def test_export_leaves_nothing_half_done(translator, original, tmp_path):
    (tmp_path/'full').mkdir(); (tmp_path/'full'/'mine.txt').write_text('')
    with pytest.raises(OSError, match='is there already'): export_lambda(translator, tmp_path/'full')
    with pytest.raises(ValueError, match='`dtype` must be'): export_lambda(translator, tmp_path/'new', 'float8')
    with pytest.raises(ValueError, match='in PyTorch'): export_lambda(original, tmp_path/'new')
    assert [o.name for o in tmp_path.iterdir()]==['full']

# The page

@pytest.fixture
def gateway(folder):
    "The function behind HTTP on loopback, as a function URL puts it there"
    service = Service(folder/'models', folder/'index.html', max_pixels=120**2)
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url, body = urlsplit(self.path), self.rfile.read(int(self.headers.get('content-length') or 0))
            event = dict(version='2.0', requestContext=dict(http=dict(method=self.command)), headers={k.lower(): v for k,v in self.headers.items()},
                         queryStringParameters=dict(parse_qsl(url.query)), body=b64(body), isBase64Encoded=True)
            res = service(event)
            data = base64.b64decode(res['body']) if res['isBase64Encoded'] else res['body'].encode()
            self.send_response(res['statusCode'])
            for k,v in res['headers'].items(): self.send_header(k, v)
            self.send_header('content-length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        do_POST = do_GET
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown(); server.server_close()

js_pixels = '''const im = document.querySelector('#after'), c = document.createElement('canvas')
c.width = im.naturalWidth; c.height = im.naturalHeight
const x = c.getContext('2d'); x.drawImage(im, 0, 0)
return [c.height, c.width, ...x.getImageData(0, 0, c.width, c.height).data]'''

@pytest.mark.parametrize('width', [1280, 390])
def test_page_in_a_browser(browser, gateway, original, tmp_path, width):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select
    from selenium.webdriver.support.wait import WebDriverWait
    driver = browser(width, 800)
    wait, find = WebDriverWait(driver, 30), lambda o: driver.find_element(By.CSS_SELECTOR, o)
    driver.get(gateway)
    wait.until(lambda _: find('[role=status]').text=='')
    assert [o.text for o in Select(find('select')).options]==['summer','winter'] and find('select').get_property('value')=='winter'

    def translated(file, to):
        before = find('#after').get_property('src')
        find('input').send_keys(str(file))
        Select(find('select')).select_by_visible_text(to)
        find('button').click()
        wait.until(lambda _: find('button').is_enabled() and (find('[role=status]').text or find('#after').get_property('src')!=before))
        return find('[role=status]').text
    def shown():
        wait.until(lambda _: driver.execute_script("const o = document.querySelector('#after'); return o.complete && o.naturalWidth>0"))
        h,w,*x = driver.execute_script(js_pixels)
        return np.array(x, dtype=np.uint8).reshape(h, w, 4)[...,:3]

    picture(64, 80).save(tmp_path/'small.png')
    for to in ('winter','summer'):
        assert translated(tmp_path/'small.png', to)==''
        assert (shown()==np.array(original(tmp_path/'small.png', to=to))).all()
    picture(300, 400).save(tmp_path/'large.png')                                     # too large: the page makes it smaller
    assert translated(tmp_path/'large.png', 'winter')=='' and shown().shape==(103,138,3)
    (tmp_path/'no.png').write_bytes(b'no image')
    assert "can't read this file" in translated(tmp_path/'no.png', 'winter')
    assert driver.execute_script('return document.documentElement.scrollWidth <= innerWidth')
    assert not [o for o in driver.get_log('browser') if o['level']=='SEVERE' and 'favicon' not in o['message']]
