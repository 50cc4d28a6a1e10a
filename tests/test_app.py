"The page of a model: a real server, asked by plain HTTP and driven by a browser"
import base64, io, json, os, re, socket, struct, subprocess, sys, tempfile, threading, time, zlib
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'

from contextlib import contextmanager
from pathlib import Path
import numpy as np, pytest, requests
from PIL import Image
pytest.importorskip('gradio', reason='no Gradio: install the extra [app]')

from cyclegan_fastai.use.app import *
from cyclegan_fastai.use.deploy import export_space
from cyclegan_fastai.core.photo import DamagedImage
from cyclegan_fastai.use.translator import Translator
from cyclegan_fastai.data.landscape import Scene, draw_scene

pytestmark = pytest.mark.filterwarnings('ignore:.*:Warning') # Gradio's of pandas, Pillow's of bombs
THERE, BACK = 'summer → winter', 'winter → summer'

@contextmanager
def serving(t, **kwargs):
    app = launch_app(t, wait=False, **kwargs)
    try: yield app
    finally: app.close(verbose=False)

@pytest.fixture(scope='module')
def page(translator):
    "A page with tight limits. What the environment says of an address is not what was asked for"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_SERVER_NAME', '0.0.0.0')
        with serving(translator, max_mb=1, max_pixels=1_000_000) as app: yield app

def upload(app, name, content): return requests.post(f'{app.local_url}gradio_api/upload', files={'files': (name, content)}, timeout=20)

def send(app, photo, direction=THERE, size='full'):
    "What the server says at last, 'complete' or 'error', and all that it sent"
    call = f'{app.local_url}gradio_api/call/translate'
    event = requests.post(call, json={'data': [photo, direction, size]}, timeout=20)
    if event.status_code!=200: return 'error', event.text
    text = requests.get(f'{call}/{event.json()["event_id"]}', timeout=60).text
    return re.findall(r'event: (\w+)', text)[-1], text

def as_file(path, **more): return {'path': path, 'meta': {'_type': 'gradio.FileData'}, **more}

def ask(app, name, content, *args):
    res = upload(app, name, content)
    assert res.status_code==200, res.text
    return send(app, as_file(res.json()[0], orig_name=name), *args)

def result(app, text):
    "The pictures of the last event: before, after, downloaded, and back; and the name of the file to download"
    (before,after),file,back = json.loads(re.findall(r'data: (.*)', text)[-1])
    load = lambda o: Image.open(io.BytesIO(requests.get(o['url'], timeout=20).content))
    return [load(o) for o in (before, after, file, back)], file['orig_name']

def encoded(im, kind='PNG', **kwargs):
    f = io.BytesIO()
    im.save(f, kind, **kwargs)
    return f.getvalue()

def landscape(size=64, season='summer', seed=9):
    return draw_scene(Scene.random(np.random.default_rng(seed)), season, size).crop((0, 0, size, size*3//4+1))

def turned():
    im = landscape()
    exif = im.getexif()
    exif[274] = 6 # "turn me a quarter clockwise"
    return encoded(im, 'JPEG', exif=exif)

def see_through():
    im = landscape().convert('RGBA')
    im.putalpha(Image.linear_gradient('L').resize(im.size))
    return encoded(im)

def deep(): return encoded(Image.fromarray((np.arange(60*50).reshape(60,50)*20).astype(np.uint16)))

def clear_of_paths(text):
    "Is there nothing of the server in `text`?"
    mine = [tempfile.gettempdir(), str(Path.cwd()), str(Path.home()), sys.prefix]
    return not re.search(r'/(tmp|root|home|usr|var)\b|Traceback|File "|site-packages', text) and not [o for o in mine if o in text]

# What comes back

pictures = dict(
    photo=('a photo (1).png', lambda: encoded(landscape())),
    odd=('odd.jpg', lambda: encoded(landscape().crop((0,0,53,37)), 'JPEG')),
    turned=('turned.jpg', turned),
    see_through=('alpha.png', see_through),
    deep=('deep.png', deep),
    grey=('grey.webp', lambda: encoded(landscape().convert('L'), 'WEBP')),
    palette=('palette.gif', lambda: encoded(landscape().convert('P'), 'GIF')),
    tiny=('one pixel.bmp', lambda: encoded(Image.new('RGB', (1,1), 'green'), 'BMP')),
    gif_by_another_name=('gif.jpg', lambda: encoded(landscape(), 'GIF')))

@pytest.mark.parametrize('name', pictures)
def test_what_is_downloaded_is_what_the_translator_makes(page, translator, name):
    file,content = pictures[name][0],pictures[name][1]()
    event,text = ask(page, file, content)
    assert event=='complete', text
    expected = translator(Image.open(io.BytesIO(content)), to='winter')
    (before,after,found,back),called = result(page, text)
    assert (found.size, found.mode)==(expected.size, expected.mode)
    assert np.array_equal(found, expected)
    assert before.size==after.size==back.size==expected.size and before.mode==after.mode=='RGB'
    assert called==re.sub(r'[^\w-]+', '-', Path(file).stem)+'_winter.png'
    if expected.mode=='RGB': assert np.array_equal(after, expected) and np.array_equal(back, translator(expected, to='summer'))

def test_other_direction_and_size(page, translator):
    im = landscape(90, 'winter')
    for size,n in (('full',None), ('trained',32)):
        event,text = ask(page, 'winter.png', encoded(im), BACK, size)
        (before,_,found,back),called = result(page, text)
        assert called=='winter_summer.png' and np.array_equal(found, translator(im, to='summer', size=n))
        assert before.size==back.size==found.size and (n is None or min(found.size)==n)

# What strangers send

def png_header(w, h):
    chunk = lambda kind,data: struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    head = struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')

NO_PICTURE = "This file can't be opened as a picture: choose a JPEG, PNG, WebP, GIF, BMP or AVIF file."
LARGE, DAMAGED = 'This picture has more than 1 megapixels: choose a smaller one.', 'This picture is damaged: choose another.'
hostile = dict(
    empty=('empty.png', lambda: b'', NO_PICTURE),
    text=('text.jpg', lambda: b'hello', NO_PICTURE),
    page=('page.png', lambda: b'<html><script>alert(1)</script>', NO_PICTURE),
    drawing=('drawing.svg', lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>', NO_PICTURE),
    postscript=('run.eps', lambda: encoded(landscape(), 'EPS'), NO_PICTURE),
    postscript_as_png=('run.png', lambda: encoded(landscape(), 'EPS'), NO_PICTURE),
    document=('document.pdf', lambda: encoded(landscape(), 'PDF'), NO_PICTURE),
    tiff=('scan.tiff', lambda: encoded(landscape(), 'TIFF'), NO_PICTURE),
    noise=('noise.png', lambda: b'\x89PNG\r\n\x1a\n'+np.random.default_rng(0).bytes(999), NO_PICTURE),
    up_and_out=('../../up.png', lambda: b'hello', NO_PICTURE),
    bomb=('bomb.png', lambda: png_header(100_000, 100_000), LARGE),
    smaller_bomb=('bomb.png', lambda: png_header(10_000, 10_000), LARGE),
    large=('large.png', lambda: encoded(Image.new('1', (1001,1000))), LARGE),
    nothing=('nothing.gif', lambda: b'GIF89a'+bytes(7)+b';', NO_PICTURE),
    hollow=('hollow.png', lambda: png_header(60, 40), DAMAGED),
    cut=('cut.jpg', lambda: encoded(landscape(), 'JPEG')[:900], DAMAGED))

@pytest.mark.parametrize('name', hostile)
def test_a_hostile_upload_gets_one_clear_message(page, name):
    file,make,message = hostile[name]
    event,text = ask(page, file, make())
    assert event=='error' and clear_of_paths(text), text
    assert json.loads(re.findall(r'data: (.*)', text)[-1])['error']==message

def test_a_strip_may_not_grow(page):
    strip = encoded(Image.new('L', (20_000,2)))
    event,text = ask(page, 'strip.png', strip, THERE, 'trained') # 32 × 320,000 pixels
    assert event=='error' and 'is so narrow that at 32 pixels' in text and clear_of_paths(text)
    assert ask(page, 'strip.png', strip)[0]=='complete'

def test_what_was_not_uploaded_is_not_read(page, translator):
    "Files of the server, addresses, pictures within the request, what was deleted, and nothing at all"
    inner = 'data:image/png;base64,'+base64.b64encode(png_header(100_000, 100_000)).decode()
    there = upload(page, 'there.png', encoded(landscape())).json()[0]
    event,text = send(page, as_file(there, url=inner, orig_name='there.png'))
    assert event=='complete' and np.array_equal(result(page, text)[0][2], translator(landscape(), to='winter')), 'the uploaded file counts'
    no_address = 'Send the picture itself: addresses are not fetched here.'
    not_sent = [(as_file('/etc/hostname'), ''), (as_file(str(Path(__file__).resolve())), ''), (as_file(there+'/../../x.png'), ''),
                (as_file('here.png'), ''), (inner, ''), (as_file(f'{page.local_url}favicon.ico'), no_address),
                (as_file('https://example.com/a.png'), no_address), (None, 'Choose a photograph first')]
    for photo,message in not_sent:
        event,text = send(page, photo)
        sent = text.replace(str(photo and photo['path'] if isinstance(photo, dict) else photo), '')
        assert event=='error' and clear_of_paths(sent) and message in text, text
    Path(there).unlink()
    event,text = send(page, as_file(there))
    assert event=='error' and 'This picture is no longer here: choose it again.' in text and clear_of_paths(text)

def test_choices_are_checked(page):
    for args in (('winter → autumn',), (THERE,'huge'), (THERE,9999)):
        event,text = ask(page, 'a.png', encoded(landscape()), *args)
        assert event=='error' and clear_of_paths(text)

def test_too_large_an_upload_is_refused(page, tmp_path):
    res = upload(page, 'a.png', bytes(1_000_001))
    assert res.status_code==413 and clear_of_paths(res.text)
    assert upload(page, 'a.png', bytes(1_000_000)).status_code==200
    (tmp_path/'a.png').write_bytes(bytes(1_000_000))
    with pytest.raises(DamagedImage, match=r'has 1\.0 megabytes, and 0\.5 are allowed'): open_upload(tmp_path/'a.png', max_mb=.5)


# The server

def test_only_this_machine_is_served(page, translator):
    port = page.server_port
    assert requests.get(page.local_url, timeout=20).status_code==200
    if sys.platform!='linux': pytest.skip('127.0.0.2 is an address of every Linux machine, but not of others')
    with pytest.raises(OSError, match='pass another `port`'): launch_app(translator, port=port)
    with pytest.raises(ConnectionRefusedError): socket.create_connection(('127.0.0.2', port), timeout=5) # who listens everywhere answers here

def test_nothing_goes_around_the_queue(page):
    photo = as_file(upload(page, 'a.png', encoded(landscape())).json()[0])
    assert requests.post(f'{page.local_url}gradio_api/run/translate', json={'data': [photo, THERE, 'full']}, timeout=20).status_code==404
    for o in ('monitoring', 'gradio_api/monitoring'): assert requests.get(page.local_url+o, timeout=20).status_code in (403, 404)
    for o in (__file__, '/etc/hostname'): assert requests.get(f'{page.local_url}gradio_api/file={o}', timeout=20).status_code in (403, 404)

class Slow:
    "An engine that waits until it may go on, and says how many are in it"
    radius,device = 0,'cpu'
    def __init__(self): self.inside,self.most,self.calls,self.go = 0,0,0,threading.Event()
    def __call__(self, x):
        self.inside += 1; self.calls += 1
        self.most = max(self.most, self.inside)
        assert self.go.wait(30)
        self.inside -= 1
        return -x

def test_one_at_a_time():
    "The second visitor waits; both get their own"
    slow,answers = Slow(),{}
    ims = {seed: landscape(40, seed=seed) for seed in (1,2,3)}
    with serving(Translator({'winter': slow}, ('summer','winter'))) as app:
        def visit(seed): answers[seed] = ask(app, f'{seed}.png', encoded(ims[seed]))
        visitors = [threading.Thread(target=visit, args=(o,), daemon=True) for o in ims]
        for o in visitors: o.start()
        deadline = time.monotonic()+20
        while len(app._queue)+slow.inside<3 and time.monotonic()<deadline: time.sleep(.02)
        waiting,inside = len(app._queue),slow.inside
        slow.go.set() # before anything is asserted: a server with open calls doesn't close
        for o in visitors: o.join(30)
        assert (waiting, inside)==(2, 1)
        assert (slow.most, slow.calls)==(1, 3)
        for seed,(event,text) in answers.items():
            assert event=='complete'
            (_,_),file,back = json.loads(re.findall(r'data: (.*)', text)[-1])
            assert back is None and file['orig_name']==f'{seed}_winter.png'
            assert np.array_equal(Image.open(io.BytesIO(requests.get(file['url'], timeout=20).content)), 255-np.array(ims[seed]))

class Broken:
    "An engine that fails as a driver would: with words for nobody"
    radius,device = 0,'cpu'
    def __call__(self, x): raise RuntimeError(f'out of memory in {__file__}')

def test_our_own_failures_say_nothing_of_the_server():
    with serving(Translator({'winter': Broken()}, ('summer','winter'))) as app:
        event,text = ask(app, 'a.png', encoded(landscape()))
    assert event=='error' and clear_of_paths(text) and 'your picture is not to blame' in text

def test_pictures_do_not_stay(translator):
    with serving(translator) as app:
        path = upload(app, 'a.png', encoded(landscape(72))).json()[0]
        event,text = send(app, as_file(path))
        kept = [Path(path), *map(Path, re.findall(r'"path": ?"([^"]+)"', text))]
        assert event=='complete' and len(kept)>=5 and all(o.exists() for o in kept)
        assert app.delete_cache[0]+app.delete_cache[1] <= 3600
    assert not [o for o in kept if o.exists()], 'what was made is gone when the server stops'

# What a model says

def test_words_of_a_model_are_no_html():
    evil = '<img src=x onerror=alert(1)>'
    t = Translator({'b/../c': Slow()}, (evil,'b/../c'), 64, dict(recipe={evil: evil, 'lr': .001}, scores=[{evil: 1.5}, 'no row'], note=evil))
    assert evil not in about_model(t) and '&lt;img' in about_model(t)
    app = translator_app(t)
    html = [o['props']['value'] for o in app.get_config_file()['components'] if o['type']=='html']
    assert len(html)==3 and not [o for o in html if evil in o]
    t.engines['b/../c'].go.set()
    with serving(t) as app:
        event,text = ask(app, 'a.png', encoded(landscape()), f'{evil} → b/../c')
        assert event=='complete' and json.loads(re.findall(r'data: (.*)', text)[-1])[1]['orig_name']=='a_b-c.png'

def test_examples(translator, tmp_path):
    for o in ('winter 2.png','other.png'): landscape().save(tmp_path/o)
    samples = lambda app: next(o for o in app.get_config_file()['components'] if o['type']=='dataset')['props']
    names = lambda *args: [Path(o[0]['path']).name for o in samples(translator_app(translator, *args))['samples']]
    assert names()==['summer.png','winter.png'] and names([tmp_path/'winter 2.png', tmp_path/'other.png'])==['winter 2.png','other.png']
    horses = Translator(dict(zip(('zebra','horse'), translator.engines.values())), ('horse','zebra'))
    assert samples(translator_app(horses))['visible'] is False
    with pytest.raises(FileNotFoundError): translator_app(translator, [tmp_path/'missing.png'])

# A browser

def the(d, css, n=0, seconds=30):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    return WebDriverWait(d, seconds, .05).until(lambda d: [o for o in d.find_elements(By.CSS_SELECTOR, css)][n:n+1], css)[0]

def until(d, js, *args, seconds=30):
    from selenium.webdriver.support.ui import WebDriverWait
    return WebDriverWait(d, seconds, .05).until(lambda d: d.execute_script('return '+js, *args), js)

LOADED = "[...document.querySelectorAll(arguments[0])].filter(o => o.complete && o.naturalWidth>0).map(o => o.src).join()"
def pixels(d, url): return np.array(Image.open(io.BytesIO(requests.get(url, timeout=20).content)).convert('RGB'))

def download(d, folder, name):
    d.execute_cdp_cmd('Browser.setDownloadBehavior', dict(behavior='allow', downloadPath=str(folder)))
    until(d, "!document.querySelector('#file').closest('button,div').querySelector('button:disabled') && !document.querySelector('#file').disabled")
    the(d, '#file').click()
    deadline = time.monotonic()+20
    while not (folder/name).exists() and time.monotonic()<deadline: time.sleep(.05)
    return Image.open(folder/name)

def test_a_visitor(page, translator, browser, tmp_path):
    "Uploads a picture, waits, sees another; changes the direction; tries an example; sends what is no picture"
    (tmp_path/'downloads').mkdir()
    for season in ('summer','winter'): landscape(96, season).save(tmp_path/f'my {season}.png')
    (tmp_path/'text.jpg').write_text('hello')
    d = browser(1280, 900)
    d.get(page.local_url)
    assert the(d, '#head h1').text=='summer ↔ winter' and d.title=='summer ↔ winter'
    the(d, '#photo input[type=file]').send_keys(str(tmp_path/'my summer.png'))
    until(d, LOADED, '#photo img')
    the(d, '#go').click()
    until(d, LOADED, '#cycled img')
    shown = until(d, LOADED, '#pair img').split(',')
    expected = translator(tmp_path/'my summer.png', to='winter')
    assert len(shown)==2 and np.array_equal(pixels(d, shown[0]), landscape(96)) and np.array_equal(pixels(d, shown[1]), expected)
    assert np.array_equal(download(d, tmp_path/'downloads', 'my-summer_winter.png'), expected)

    old = until(d, LOADED, '#cycled img') # an example sets the direction by its name, and is translated at once
    the(d, '#picks button', 1).click()
    until(d, f"{LOADED}!=arguments[1] && {LOADED}", '#cycled img', old)
    assert until(d, "document.querySelector('#way input:checked').value")==BACK
    _,winter = draw_examples(tmp_path/'examples')
    assert np.array_equal(download(d, tmp_path/'downloads', 'winter_summer.png'), translator(winter, to='summer'))

    d.refresh()
    the(d, '#photo input[type=file]').send_keys(str(tmp_path/'text.jpg'))
    until(d, "document.querySelector('#photo img')!=null")
    the(d, '#go').click()
    told = until(d, "document.querySelector('.toast-body')?.innerText")
    assert NO_PICTURE in told and clear_of_paths(told)
    assert not [o for o in d.get_log('browser') if o['level']=='SEVERE']
    asked = d.execute_script("return performance.getEntriesByType('resource').map(o => o.name)")
    assert asked and not [o for o in asked if not o.startswith((page.local_url, 'data:', 'blob:'))], 'nobody else is asked for anything'

def test_on_a_phone(page, translator, browser, tmp_path):
    "All is within the width, and the result scrolls into view"
    landscape(96).save(tmp_path/'a.png')
    d = browser(390, 844)
    d.get(page.local_url)
    the(d, '#photo input[type=file]').send_keys(str(tmp_path/'a.png'))
    until(d, LOADED, '#photo img')
    the(d, '#go').click()
    until(d, LOADED, '#cycled img')
    assert d.execute_script('return document.documentElement.scrollWidth')<=390
    until(d, "(r => r.top>=-1 && r.top<innerHeight/2)(document.getElementById('pair').getBoundingClientRect())")

# A Space

def test_a_space_starts(translator, tmp_path):
    out = export_space(translator, tmp_path/'space')
    assert sorted(str(o.relative_to(out)) for o in out.rglob('*') if o.is_file())==[
        'README.md','app.py','examples/summer.png','examples/winter.png','model.safetensors','requirements.txt']
    head,card = re.fullmatch(r'---\n(.*?)\n---\n\n(.*)', (out/'README.md').read_text(), re.S).groups()
    head = dict(o.split(': ', 1) for o in head.splitlines())
    assert (json.loads(head['title']), head['sdk'], head['app_file'])==('summer ↔ winter', 'gradio', 'app.py')
    assert re.fullmatch(r'\d+\.\d+\.\d+', head['sdk_version']) and re.fullmatch(r'"3\.\d+"', head['python_version'])
    assert card.startswith('# ') and '\n---\ntags' not in card
    assert re.fullmatch(r'cyclegan_fastai\[app\] @ git\+https://\S+\n', (out/'requirements.txt').read_text())
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {k: v for k,v in os.environ.items() if k!='PYTHONDONTWRITEBYTECODE'}
    env |= dict(PYTHONPATH=str(Path(__file__).resolve().parents[1]), GRADIO_SERVER_PORT=str(port), OMP_NUM_THREADS='1')
    with (tmp_path/'log').open('w') as log: server = subprocess.Popen([sys.executable, 'app.py'], cwd=out, env=env, stdout=log, stderr=log)
    try:
        class there: local_url = f'http://127.0.0.1:{port}/'
        deadline = time.monotonic()+60
        while True:
            assert server.poll() is None and time.monotonic()<deadline, (tmp_path/'log').read_text()
            try: requests.get(there.local_url, timeout=5); break
            except requests.ConnectionError: time.sleep(.1)
        event,text = ask(there, 'a.png', encoded(landscape()))
        assert event=='complete', text
        assert np.array_equal(result(there, text)[0][2], Translator.load(out, device='cpu')(landscape(), to='winter'))
    finally:
        server.terminate()
        server.wait(10)

def test_a_space_is_whole_or_not_there(translator, tmp_path):
    (tmp_path/'full').mkdir(); (tmp_path/'full'/'a').touch()
    with pytest.raises(FileExistsError): export_space(translator, tmp_path/'full')
    with pytest.raises(ValueError, match='`dtype` must be'): export_space(translator, tmp_path/'new', dtype='int3')
    assert not (tmp_path/'new').exists()
