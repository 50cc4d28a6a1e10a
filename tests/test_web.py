"The page with no server: its folder, where its runtime comes from, and what a visitor sees of it in Chromium"
import base64, hashlib, io, json, os, re, shutil, socket, tarfile, threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np, pytest
from PIL import Image

from cyclegan_fastai.use import web
from cyclegan_fastai.use.translator import Translator
from cyclegan_fastai.use.web import export_web, fetch_ort, read_ort

templates = Path(web.__file__).parents[1]/'templates'/'web'
ours = sorted(o for o in templates.rglob('*') if o.suffix in ('.html','.js','.css','.svg'))

@pytest.fixture(scope='session')
def ort():
    "The runtime's folder, downloaded at most once on each machine"
    try: return fetch_ort()
    except OSError as e: pytest.skip(f'no onnxruntime-web: {e}')

@pytest.fixture(scope='session')
def page_folder(translator, ort, tmp_path_factory):
    pytest.importorskip('onnxscript', reason='no ONNX exporter: install the extra [onnx]')
    return export_web(translator, tmp_path_factory.mktemp('web')/'page', 'float32', ort)

@pytest.fixture
def copied(page_folder, tmp_path): return Path(shutil.copytree(page_folder, tmp_path/'copied'))

# The folder

def picture(path, w, h, mode='RGB', **kwargs):
    "A file with a smooth picture, so that resizing and decoding can't matter"
    y,x = np.mgrid[:h,:w]
    c = np.stack([255*x/max(w-1, 1), 255*y/max(h-1, 1), 127+120*np.sin((x+y)/5), (x*37+y*11)%256], 2)
    c[:h//3,:,3],c[h//3:h//2,:,3] = 255,0                                # opaque, transparent, in between
    Image.fromarray(c.round().astype(np.uint8)[...,:len(mode)], mode).save(path, **kwargs)
    return path

def test_folder_holds_what_the_page_needs_and_nothing_else(page_folder, ort):
    files = {o.relative_to(page_folder).as_posix(): o.stat().st_size for o in page_folder.rglob('*') if o.is_file()}
    assert files.keys()==set('''index.html style.css app.js worker.js pixels.js icon.svg model.json ort/ort.js ort/ort.wasm.gz ort/LICENSE.txt
        models/summer_to_winter.onnx models/winter_to_summer.onnx examples/1.jpg examples/2.jpg'''.split())
    info = json.loads((page_folder/'model.json').read_text(encoding='utf-8'))
    assert (info['title'], info['domains'], info['size'], info['dtype']) == ('summer ↔ winter', ['summer','winter'], 32, 'float32')
    for o in info['models'].values(): assert files[o['file']]==o['bytes']
    assert files[info['runtime']['wasm']]==info['runtime']['bytes'] < 4e6, 'a telephone waits for it'
    assert [(o['file'], o['domain']) for o in info['examples']]==[('examples/1.jpg','summer'), ('examples/2.jpg','winter')]
    assert (page_folder/'ort'/'ort.js').read_bytes()==read_ort(ort)['ort.wasm.bundle.min.mjs']

def test_every_reference_resolves_within_the_folder(page_folder):
    html = (page_folder/'index.html').read_text(encoding='utf-8')
    refs = re.findall(r'(?:src|href)="([^"]+)"', html)
    for o in page_folder.glob('*.js'): refs += re.findall(r"(?:from |import\()'([^']+)'|new URL\('([^']+)'", o.read_text(encoding='utf-8'))
    refs = [next(filter(None, o)) if isinstance(o, tuple) else o for o in refs]
    assert {'app.js','style.css','./pixels.js','worker.js','ort/LICENSE.txt'} <= set(refs)
    assert not [o for o in refs if not (page_folder/o).is_file() or '..' in o or o.startswith('/')]
    assert '$' not in html and '<title>summer ↔ winter</title>' in html

@pytest.mark.parametrize('file', ours, ids=lambda o: o.name)
def test_names_no_other_host(file):
    text = file.read_text(encoding='utf-8').replace('http://www.w3.org/2000/svg', '')
    assert not re.search(r'https?:|//[\w-]+\.\w|\beval\(|innerHTML', text)
    if file.suffix=='.html': assert not re.search(r'\son\w+=|\sstyle=|<script(?![^>]*src)', text), 'its Content-Security-Policy forbids it'

def test_other_domains_other_examples_one_direction(translator, ort, tmp_path):
    pytest.importorskip('onnxscript')
    odd = ('<b>Öl</b> & "Tee"', 'a/b')
    one = Translator({odd[1]: translator.engines['winter']}, odd, None)
    clear,lake = Image.new('RGBA', (2000,10), (255,0,0,128)),picture(tmp_path/'a lake.png', 20, 30)
    out = export_web(one, tmp_path/'new'/'page', 'int8', str(ort), [clear, lake])
    info = json.loads((out/'model.json').read_text(encoding='utf-8'))
    assert (list(info['models']), info['size'], info['title']) == ([odd[1]], None, '<b>Öl</b> & "Tee" → a/b')
    assert [tuple(o.values()) for o in info['examples']]==[('examples/1.png','picture 1',None), ('examples/2.jpg','a lake',None)]
    assert Image.open(out/'examples/1.png').size==(1024,5) and Image.open(out/'examples/1.png').mode=='RGBA'
    assert '&lt;b&gt;Öl&lt;/b&gt; &amp; &quot;Tee&quot; → a/b</title>' in (out/'index.html').read_text(encoding='utf-8')

def test_a_failed_export_leaves_nothing(translator, ort, tmp_path):
    for kw,error in ((dict(dtype='float8'), ValueError), (dict(examples=['nowhere.png']), OSError), (dict(ort=tmp_path/'no'), OSError)):
        with pytest.raises(error): export_web(translator, tmp_path/'out', **{'ort': ort, **kw})
    assert not list(tmp_path.iterdir())
    (tmp_path/'mine.txt').write_text('')
    with pytest.raises(FileExistsError): export_web(translator, tmp_path, ort=ort)
    assert [o.name for o in tmp_path.iterdir()]==['mine.txt']

# Where the runtime comes from

@pytest.fixture(scope='session')
def archive(tmp_path_factory):
    "The package as npm brings it"
    try: return web._pack(tmp_path_factory.mktemp('npm'))
    except OSError as e: pytest.skip(f'no onnxruntime-web: {e}')

@pytest.fixture
def registry(tmp_path, monkeypatch):
    "A package registry on loopback that has one version of onnxruntime-web; gives what it was asked for"
    if not shutil.which('npm'): pytest.skip('no npm: install Node.js')
    servers, asked = [], []
    def start(content, version=web.ORT_VERSION):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args): pass
            def do_GET(self):
                asked.append(self.path)
                tgz = f'{address}/onnxruntime-web/-/onnxruntime-web-{version}.tgz'
                integrity = 'sha512-' + base64.b64encode(hashlib.sha512(content).digest()).decode()
                said = dict(name='onnxruntime-web', version=version, dist=dict(tarball=tgz, integrity=integrity))
                package = {'name': 'onnxruntime-web', 'dist-tags': {'latest': version}, 'versions': {version: said}}
                body = {'/onnxruntime-web': json.dumps(package).encode(), urlsplit(tgz).path: content}.get(self.path)
                self.send_response(200 if body else 404)
                self.send_header('Content-Length', str(len(body or b'')))
                self.end_headers()
                self.wfile.write(body or b'')
        server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        monkeypatch.setenv('npm_config_registry', address)
        return server
    monkeypatch.setenv('npm_config_cache', str(tmp_path/'npm cache'))
    monkeypatch.setenv('npm_config_fetch_retries', '0')
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path/'home'))
    start.asked = asked
    yield start
    for o in servers: o.shutdown(); o.server_close()

def test_runtime_is_downloaded_once(registry, archive, tmp_path):
    server = registry(archive.read_bytes())
    folder = fetch_ort()
    assert folder==tmp_path/'home'/'onnxruntime-web'/web.ORT_VERSION and sorted(o.name for o in folder.iterdir())==sorted(web._FILES)
    assert sum(o.endswith('.tgz') for o in registry.asked)==1 and read_ort(folder)==read_ort(archive)
    server.shutdown(); server.server_close()
    assert fetch_ort()==folder, 'no network the second time'

def test_what_is_damaged_is_not_used(ort, tmp_path, monkeypatch):
    kept = Path(shutil.copytree(ort, tmp_path/'kept'))
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(web, 'find_spec', lambda _: None)
    assert fetch_ort(kept)==kept
    (kept/'ort-wasm-simd-threaded.wasm').write_bytes(b'half of it')
    with pytest.raises(ValueError, match='another SHA-256'): read_ort(kept)
    with pytest.raises(FileNotFoundError, match='install Node.js'): fetch_ort(kept)

def test_runtime_may_be_unpacked_anywhere(archive, tmp_path):
    with tarfile.open(archive) as tar:
        for name in web._FILES: (tmp_path/name).write_bytes(tar.extractfile(f'package/dist/{name}').read())
    files = read_ort(tmp_path)
    for below in ('dist', 'package/dist', 'node_modules/onnxruntime-web/dist'):
        to = tmp_path/'x'/below.replace('/', '-')
        (to/below).mkdir(parents=True)
        for name,content in files.items(): (to/below/name).write_bytes(content)
        assert read_ort(to)==files

def test_tampered_archive_is_refused(registry, archive, tmp_path):
    "Even if the registry says that it is as it should be"
    evil = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=evil, mode='w:gz', compresslevel=1) as new:
        for name in ('package/package.json', *(f'package/dist/{o}' for o in web._FILES)):
            content = old.extractfile(name).read().replace(b'Microsoft', b'Microsofd')
            info = tarfile.TarInfo(name)
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    registry(evil.getvalue())
    with pytest.raises(ValueError, match="isn't onnxruntime-web 1.30.0 as it was published"): fetch_ort()
    assert sum(o.endswith('.tgz') for o in registry.asked)==1 and not (tmp_path/'home').exists()

def test_broken_archive_is_refused(registry, tmp_path):
    registry(b'cut off')
    with pytest.raises((OSError, ValueError), match='onnxruntime-web 1.30.0'): fetch_ort() # versions of npm differ in what they look at
    assert not (tmp_path/'home').exists()

@pytest.mark.parametrize('gone', [False, True])
def test_runtime_cannot_be_had(registry, tmp_path, gone):
    server = registry(b'', version='0.1.0')
    if gone: server.shutdown(); server.server_close()
    why = 'request to .* failed' if gone else 'No matching version'
    with pytest.raises(OSError, match=rf"npm couldn't download onnxruntime-web 1.30.0 \(.*{why}") as e: fetch_ort()
    assert '\n' not in str(e.value) and '`ort`' in str(e.value) and not (tmp_path/'home').exists()

def test_npm_takes_too_long(registry, monkeypatch, tmp_path):
    "A server that takes the request and never answers"
    with socket.create_server(('127.0.0.1', 0)) as s:
        monkeypatch.setenv('npm_config_registry', f'http://127.0.0.1:{s.getsockname()[1]}')
        with pytest.raises(TimeoutError, match="hasn't brought onnxruntime-web 1.30.0 in 2 seconds"): web._pack(tmp_path, limit=2)

# The visitor

class Page:
    "What a visitor does and sees"
    def __init__(self, driver, url): self.driver,self.url = driver,url

    def open(self, query=''):
        self.driver.get(f'{self.url}/{query}')
        return self.until('empty', 'error')

    def until(self, *states):
        from selenium.webdriver.support.ui import WebDriverWait
        WebDriverWait(self.driver, 60, poll_frequency=.05).until(lambda _: self.state in states)
        return self

    @property
    def state(self): return self.find('body').get_attribute('data-state')
    def find(self, css): return self.driver.find_element('css selector', css)
    def text(self, css): return self.find(css).text
    def js(self, code, *args): return self.driver.execute_script(code, *args)

    def do(self, action, *states):
        "Do something, and wait until the page has answered"
        self.js("document.body.dataset.state = 'asked'")
        action()
        return self.until(*(states or ('done','error')))

    def give(self, file, *states): return self.do(lambda: self.find('#file').send_keys(str(file)), *states)
    def press(self, css, *states): return self.do(lambda: self.js('arguments[0].click()', self.find(css)), *states)
    def choose(self, css, value):
        self.js("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))", self.find(css), str(value))

    def pixels(self, canvas='#after'):
        w,h,x = self.js('''const c = document.querySelector(arguments[0])
            return [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]''', canvas)
        return np.array(x, np.uint8).reshape(h, w, 4)

@pytest.fixture
def visit(browser, serve, page_folder):
    def start(*args, folder=None, url=None): return Page(browser(1280, 900, *args), url or serve(folder or page_folder))
    return start

def off(a, b): return np.abs(a.astype(int)-b.astype(int)).max()

def test_upload_gives_the_translators_pixels(visit, translator, tmp_path):
    page = visit().open()
    photo = picture(tmp_path/'a photo.png', 45, 37)                      # no multiples of 4
    page.give(photo)
    assert (page.state, page.text('#error')) == ('done', '')
    expected = translator(photo, to='winter')
    assert off(page.pixels()[...,:3], np.array(expected)) <= 1 and (page.pixels()[...,3]==255).all()
    assert off(np.array(Image.open(photo)), np.array(expected)) > 20, 'it is another picture'
    assert off(page.pixels('#before')[...,:3], np.array(Image.open(photo)))==0
    assert re.fullmatch(r'45 × 37 pixels in \d+\.\d s', page.text('#status'))
    assert [page.text(o) for o in ('#tag-before','#tag-after')]==['original','winter']

    page.press('input[value=back]')
    assert page.state=='done' and page.text('#tag-after')=='winter, and back'
    back = translator(expected, to='summer')
    assert np.abs(page.pixels()[...,:3].astype(int)-np.array(back)).mean() < .5
    page.press('input[name=to][value=summer]')
    assert page.text('#tag-after')=='summer' and off(page.pixels()[...,:3], np.array(translator(photo, to='summer'))) <= 1
    for w,h in ((3,21), (16,64)):
        page.give(picture(tmp_path/f'{w}x{h}.png', w, h))
        assert off(page.pixels()[...,:3], np.array(translator(tmp_path/f'{w}x{h}.png', to='summer'))) <= 1
    assert not page.driver.get_log('browser')

def test_download_keeps_what_is_transparent(visit, translator, tmp_path):
    page = visit().open()
    photo = picture(tmp_path/'clear.png', 30, 42, 'RGBA')
    page.give(photo)
    expected = np.array(translator(photo, to='winter')).astype(float)
    assert page.find('#download').get_attribute('download')=='clear-winter.png'
    page.find('#download').click()
    from selenium.webdriver.support.ui import WebDriverWait
    saved = tmp_path/'downloads'/'clear-winter.png'
    WebDriverWait(page.driver, 10).until(lambda _: saved.exists())
    found = np.array(Image.open(saved)).astype(float)
    assert found.shape==expected.shape and (found[...,3]==expected[...,3]).all()
    seen = lambda x: x[...,:3]*x[...,3:]/255                             # a canvas keeps colours times alpha
    assert np.abs(seen(found)-seen(expected)).max() <= 1.5
    assert np.abs(found-expected)[expected[...,3]==255].max() <= 1
    page.press('input[value=back]')
    back = np.array(translator(translator(photo, to='winter'), to='summer')).astype(float)
    assert np.abs(seen(page.pixels().astype(float))-seen(back)).mean() < .5 and (page.pixels()[...,3]==back[...,3]).all()

def test_large_and_sideways_photographs(visit, tmp_path):
    page = visit().open()
    wide = Image.new('RGB', (600,300)); wide.paste((255,255,255), (300,0,600,300)) # right half white
    exif = wide.getexif(); exif[274] = 6                                  # held upright
    wide.save(tmp_path/'upright.jpg', exif=exif)
    page.choose('#size', 64)
    page.give(tmp_path/'upright.jpg')
    before = page.pixels('#before')
    assert before.shape==(64,32,4) and before[5,16,0]<30 and before[-5,16,0]>225, 'what was right is at the bottom'
    assert page.pixels().shape==(64,32,4)
    page.do(lambda: page.choose('#size', 128))
    assert page.pixels().shape==(128,64,4)
    names = page.js("return [...document.querySelectorAll('#size option')].map(o => o.textContent)")
    assert names==['32 pixels, as trained', *(f'{o} pixels' for o in (64,128,256,384,512))]

def test_examples_drag_and_paste(visit, tmp_path):
    page = visit().open()
    page.press('.thumb:nth-child(2)')
    assert page.js("return document.querySelector('input[name=to]:checked').value")=='summer', 'an example of winter becomes summer'
    assert page.pixels().shape==(256,256,4) and off(page.pixels(), page.pixels('#before')) > 20
    data = base64.b64encode(picture(tmp_path/'x.png', 20, 24).read_bytes()).decode()
    event = '''const files = new DataTransfer(), data = Uint8Array.from(atob(arguments[0]), o => o.charCodeAt())
        files.items.add(new File([data], 'x.png', {type: 'image/png'}))
        document.body.dispatchEvent(arguments[1] == 'paste' ? new ClipboardEvent('paste', {clipboardData: files, bubbles: true})
            : new DragEvent(arguments[1], {dataTransfer: files, bubbles: true, cancelable: true}))'''
    page.js(event, data, 'dragover')
    assert 'over' in page.find('body').get_attribute('class')
    page.do(lambda: page.js(event, data, 'drop'))
    assert page.pixels().shape==(24,20,4) and 'over' not in page.find('body').get_attribute('class')
    page.press('.thumb')
    page.do(lambda: page.js(event, data, 'paste'))
    assert page.pixels().shape==(24,20,4)

def test_divider_names_and_keyboard(visit):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys
    page = visit().open().press('.thumb')
    at = lambda: float(page.js("return getComputedStyle(document.getElementById('after')).clipPath").split()[-1].rstrip('%)'))
    assert at()==50
    page.find('#divider').send_keys(Keys.ARROW_LEFT*4)
    assert at()==48
    box = page.find('#stage')
    drag = ActionChains(page.driver).move_to_element_with_offset(box, int(.25*box.size['width']), 0).click_and_hold()
    drag.move_by_offset(20, 0).release().perform()
    assert abs(at()-100*(.75+20/box.size['width'])) < 1.5

    things = page.driver.find_elements('css selector', 'button, input, select, a, progress')
    shown = [o for o in things if o.is_displayed() or o.get_attribute('type') in ('radio','file')]
    assert len(shown) >= 12 and not [o.get_attribute('outerHTML') for o in shown if not o.accessible_name]
    page.js("document.activeElement.blur()")
    reached = set()
    for _ in range(12):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.add(page.js('const o = document.activeElement; return o.id || o.name || o.className'))
    assert {'divider','view','download','file','camera','thumb','to','size'} <= reached

def test_errors_in_words(visit, copied, serve, tmp_path):
    page = visit(folder=copied).open()
    (tmp_path/'notes.txt').write_text('no picture')
    page.give(tmp_path/'notes.txt')
    assert page.state=='error' and page.text('#error')=='“notes.txt” can\'t be read as an image by this browser: choose a JPEG, a PNG or a WebP.'
    (tmp_path/'huge.png').write_bytes(bytes(61_000_000))
    page.give(tmp_path/'huge.png')
    assert page.text('#error').startswith('“huge.png” has 61 MB, and 60 can be read')
    photo = picture(tmp_path/'p.png', 20, 20)
    (copied/'models'/'summer_to_winter.onnx').rename(tmp_path/'model')
    page.give(photo)
    assert page.state=='error' and 'summer_to_winter.onnx” is missing (404)' in page.text('#error')
    (copied/'models'/'summer_to_winter.onnx').write_bytes(b'no model')
    page.give(photo)
    assert "The model can't be started" in page.text('#error')
    shutil.copy(tmp_path/'model', copied/'models'/'summer_to_winter.onnx')
    os.utime(copied/'models'/'summer_to_winter.onnx', (2e9,2e9)) # servers count in seconds
    page.give(photo)
    assert (page.state, page.text('#error'), page.pixels().shape) == ('done', '', (20,20,4)), 'all is well again'
    (copied/'model.json').unlink()
    assert 'model.json” is missing (404)' in page.open().text('#error')

def test_incomplete_folder(visit, copied, tmp_path):
    page,photo = visit(folder=tmp_path),picture(tmp_path/'p.png', 20, 20)
    root = page.url
    for file in ('ort/ort.js', 'ort/ort.wasm.gz', 'worker.js'):
        page.url = f'{root}/{Path(shutil.copytree(copied, tmp_path/file.replace("/", "-"))).name}'
        (tmp_path/page.url.split('/')[-1]/file).unlink()
        page.open().give(photo)
        assert page.state=='error' and (file in page.text('#error') or 'the folder is incomplete' in page.text('#error'))

def test_browser_without_webassembly(visit, tmp_path):
    page = visit('js-flags=--jitless').open().give(picture(tmp_path/'p.png', 20, 20))
    assert 'WebAssembly is switched off' in page.text('#error')

def test_stop_and_a_server_that_goes_away(visit, page_folder, tmp_path):
    "The model's bytes don't come until they may"
    may, asked = threading.Event(), threading.Event()
    class Slow(SimpleHTTPRequestHandler):
        def __init__(self, *args): super().__init__(*args, directory=str(page_folder))
        def log_message(self, *args): pass
        def do_GET(self):
            if self.path.endswith('.onnx'): asked.set(); may.wait(60)
            try: super().do_GET()
            except ConnectionError: pass # the visitor has stopped it
    server = ThreadingHTTPServer(('127.0.0.1', 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = visit(url=f'http://127.0.0.1:{server.server_port}').open()
        photo = picture(tmp_path/'p.png', 20, 20)
        page.give(photo, 'busy')
        assert asked.wait(60) and page.state=='busy' and page.find('#progress').is_displayed()
        page.press('#stop', 'stopped')
        assert page.text('#status')=='Stopped.' and not page.find('#progress').is_displayed()
        may.set()
        assert page.give(photo).state=='done'
    finally: may.set(); server.shutdown(); server.server_close()
    assert page.give(photo).state=='done', 'what is loaded stays loaded'
    page.press('input[name=to][value=summer]')
    assert page.state=='error' and "can't be reached: is the server still there?" in page.text('#error')

def test_camera(visit):
    page = visit('use-fake-device-for-media-stream', 'use-fake-ui-for-media-stream').open()
    page.press('#camera', 'camera', 'error')
    assert page.state=='camera' and page.find('#video').is_displayed() and page.js("return document.activeElement.id")=='shoot'
    page.press('#close', 'empty')
    assert page.find('#drop').is_displayed() and not page.find('#video').is_displayed()
    page.press('#camera', 'camera')
    tracks = page.js("window.tracks = document.getElementById('video').srcObject.getTracks(); return tracks.map(o => o.readyState)")
    assert tracks==['live']
    page.press('#shoot')
    assert page.state=='done' and page.pixels().shape==page.pixels('#before').shape and max(page.pixels().shape)==256
    assert page.js('return tracks.map(o => o.readyState)')==['ended'], "the camera's light is off"
    page.press('#camera', 'camera').press('#close')                      # gives the last picture back
    assert page.state=='done' and not page.find('#video').is_displayed()

@pytest.mark.parametrize('denied', [True, False])
def test_camera_refused_or_missing(visit, denied):
    page = visit(*['use-fake-device-for-media-stream']*denied).open()
    allowed = 'denied' if denied else 'granted'
    page.driver.execute_cdp_cmd('Browser.setPermission', dict(permission=dict(name='camera'), setting=allowed, origin=page.url))
    page.press('#camera', 'camera', 'error')
    refused = 'The camera was refused: allow it in the address bar, or choose a file.'
    assert page.text('#error')==(refused if denied else 'No camera was found: choose a file.')

def test_talks_to_nobody_else(visit, tmp_path):
    "By the browser's own log of all requests, those of the worker too"
    page = visit(f'log-net-log={tmp_path}/net.json').open().press('.thumb')
    assert page.state=='done' and not page.driver.get_log('browser')
    page.driver.quit()
    log = json.loads((tmp_path/'net.json').read_text(encoding='utf-8'))
    asked = [o['params'] for o in log['events'] if 'url' in o.get('params', {}) and 'initiator' in o['params']]
    paths = {urlsplit(o['url']).path for o in asked if o['url'].startswith(page.url)}
    assert {'/app.js','/worker.js','/ort/ort.js','/ort/ort.wasm.gz','/models/summer_to_winter.onnx','/examples/1.jpg'} <= paths
    assert not [o['url'] for o in asked if o['initiator'].startswith(page.url) and not o['url'].startswith(page.url)]

def test_fits_a_phone_and_a_frame(visit):
    page = visit()
    fits = lambda: page.js('return document.documentElement.scrollWidth <= innerWidth')
    for width in (360, 390, 1280):
        page.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=800, deviceScaleFactor=1, mobile=width<600))
        assert page.open().js('return innerWidth')==width and fits() and page.find('header').is_displayed()
        assert page.press('.thumb').state=='done' and fits()
        small = [o for o in page.driver.find_elements('css selector', 'button, .button, select') if o.is_displayed() and o.size['height']<44]
        assert not small, 'too small for a finger'
        page.open('?embed&theme=dark')
        assert not page.find('header').is_displayed() and not page.find('footer').is_displayed()
        assert page.js('return getComputedStyle(document.body).backgroundColor')=='rgba(0, 0, 0, 0)'
        assert page.js("return getComputedStyle(document.documentElement).colorScheme")=='dark'
        assert page.press('.thumb').state=='done' and fits()

def test_opened_as_a_file_it_says_what_to_do(browser, page_folder):
    from selenium.webdriver.support.ui import WebDriverWait
    driver = browser()
    driver.get((page_folder/'index.html').as_uri())
    note = driver.find_element('id', 'asleep')
    WebDriverWait(driver, 10).until(lambda _: note.is_displayed())
    assert 'python -m http.server' in note.text and not driver.find_element('tag name', 'main').is_displayed()
