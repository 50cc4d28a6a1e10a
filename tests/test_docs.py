"The docs site, built as it is published, read in Chromium as a visitor does"
import os, re, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fastcore.xtras import Config

root = Path(__file__).resolve().parents[1]
pages_of = lambda site: sorted(o.relative_to(site).as_posix() for o in site.rglob('*.html')
                               if o.parts[len(site.parts)] not in ('_static','demo'))
settings = Config(root, 'settings.ini')
notebooks = sorted(o.relative_to(root).as_posix() for o in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts)

@pytest.fixture(scope='module')
def site(tmp_path_factory, model_file):
    "The site, with a page to try a model where the runtime of such pages can be had"
    for o in ('sphinx','myst_nb','furo'): pytest.importorskip(o, reason='no site without Sphinx: install the extra [dev]')
    from cyclegan_fastai.use.web import fetch_ort
    try: fetch_ort(); demo = ['--run', str(model_file)]
    except OSError: demo = []
    out = tmp_path_factory.mktemp('docs')/'site'
    res = subprocess.run([sys.executable, str(root/'.ci'/'docs'), str(out), *demo], cwd=root, capture_output=True, text=True,
                         env={**os.environ, 'PYTHONWARNINGS': 'ignore'})
    if res.returncode: pytest.fail(res.stdout[-3000:] + res.stderr[-3000:], pytrace=False)
    return out

class Page(HTMLParser):
    "What a page has, and what it refers to"
    def __init__(self, text):
        super().__init__()
        self.ids,self.refs,self.math,self.images = set(),[],0,[]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if 'id' in attrs: self.ids.add(attrs['id'])
        self.refs += [attrs[o] for o in ('href','src') if attrs.get(o)]
        self.math += tag=='math'
        if tag=='img': self.images.append(attrs)

@pytest.fixture(scope='module')
def parsed(site): return {o: Page((site/o).read_text(encoding='utf-8')) for o in pages_of(site)}

def test_every_notebook_is_a_page_with_its_links(site, parsed):
    texts = {o: (site/o).read_text(encoding='utf-8') for o in parsed}
    url,branch = settings['git_url'],settings['branch']
    colab = url.replace('github.com', 'colab.research.google.com/github')
    for nb in notebooks:
        found = [o for o,p in parsed.items() if f'{colab}/blob/{branch}/{nb}' in p.refs and f'{url}/blob/{branch}/{nb}' in p.refs]
        assert len(found)==1, nb
        assert re.search(r'updated \d{4}-\d\d-\d\d', texts[found[0]]), nb
    assert len(parsed) >= len(notebooks)+2                               # the gallery and the search

def test_no_link_or_picture_is_broken(site, parsed):
    broken = []
    for o,p in parsed.items():
        for ref in p.refs:
            u = urlsplit(ref)
            if u.scheme or u.netloc: continue
            target = (site/o).parent/unquote(u.path) if u.path else site/o
            if target.is_dir(): target /= 'index.html'
            name = os.path.relpath(target, site)
            if not target.is_file(): broken.append((o, ref))
            elif u.fragment and name in parsed and unquote(u.fragment) not in parsed[name].ids: broken.append((o, ref))
    assert not broken

def test_pictures_have_words(parsed): assert not [(o, i) for o,p in parsed.items() for i in p.images if 'alt' not in i]

def test_exported_names_are_documented_with_a_table_and_their_source(site):
    text = (site/'game'/'pool.html').read_text(encoding='utf-8')
    part = next(o for o in re.split(r'<h\d>', text) if o.startswith('FakePool'))
    assert re.search(rf'{re.escape(settings["git_url"])}/blob/{settings["branch"]}/cyclegan_fastai/game/pool.py#L\d+', part)
    assert re.search(r'<td[^>]*>\s*<p>size</p>\s*</td>', part) and 'Images kept; 0: no history' in part

def test_llms_txt_names_every_page(site):
    text = (site/'llms.txt').read_text(encoding='utf-8')
    found = re.findall(r'^- \[(.+?)\]\((\S+?)\): (.+)$', text, re.M)
    base = settings['doc_host']+settings['doc_baseurl']+'/'
    assert len(found)==len(notebooks) and all(u.startswith(base) and (site/u[len(base):]).is_file() for _,u,_ in found)

# In a browser

@pytest.fixture
def address(site, serve): return serve(site)

@pytest.mark.parametrize('width', (1280, 390))
def test_every_page_opens(site, parsed, address, browser, width):
    "No error in the console, nothing from elsewhere, no picture missing, nothing wider than the screen, formulas drawn"
    d = browser(width, 900)
    for o in parsed:
        d.get(f'{address}/{o}')
        d.execute_script("document.querySelectorAll('img').forEach(o => o.loading = 'eager')")
        d.execute_async_script("const done = arguments[0]; Promise.all([...document.images].map(o => o.decode().catch(() => 0))).then(done)")
        seen = d.execute_script('''return {foreign: performance.getEntriesByType('resource').map(o => o.name).filter(o => !o.startsWith(location.origin) && !o.startsWith('data:')),
            missing: [...document.images].filter(o => !o.naturalWidth).map(o => o.src.slice(0, 99)), wide: document.documentElement.scrollWidth - innerWidth,
            flat: [...document.querySelectorAll('math')].filter(o => o.getBoundingClientRect().height < 5).length}''')
        assert seen=={'foreign': [], 'missing': [], 'wide': seen['wide'], 'flat': 0} and seen['wide']<=0, (o, seen)
        assert not [e for e in d.get_log('browser') if e['level'] in ('SEVERE','WARNING')], o

def test_formulas_are_drawn(site, parsed, address, browser):
    assert sum(p.math for p in parsed.values()) > 100
    assert not [o for o in parsed if re.search(r'<p>[^<]*\$[^$<]*\\\w+', (site/o).read_text(encoding='utf-8'))], 'a formula left as it is written'
    d = browser()
    d.get(f'{address}/lessons/cyclegan.html')
    wide = d.execute_script("return Math.max(...[...document.querySelectorAll('.formula math')].map(o => o.getBoundingClientRect().width))")
    assert wide > 200

def test_search_finds_fakepool(address, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    d = browser()
    d.get(f'{address}/index.html')
    field = d.find_element(By.NAME, 'q')
    field.send_keys('FakePool'); field.submit()
    found = WebDriverWait(d, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, '#search-results li a'))
    assert 'game/pool.html' in ' '.join(o.get_attribute('href') for o in found[:5])

def test_light_and_dark(address, browser):
    d = browser()
    d.get(f'{address}/game/training.html')
    colors = [d.execute_script("document.querySelector('.theme-toggle').click(); return getComputedStyle(document.body).backgroundColor") for _ in range(3)]
    assert len(set(colors))==2, 'light, dark, and as the system has it'

def test_a_model_can_be_tried(site, address, browser):
    if not (site/'demo').exists(): pytest.skip('no onnxruntime-web: npm could not fetch it')
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    d = browser()
    d.get(f'{address}/demo.html')
    d.switch_to.frame(d.find_element(By.CSS_SELECTOR, 'iframe.demo'))
    example = WebDriverWait(d, 60).until(lambda d: d.find_elements(By.CSS_SELECTOR, '#examples .thumb'))[0]
    d.execute_script('arguments[0].click()', example)
    WebDriverWait(d, 60).until(lambda d: d.find_element(By.ID, 'after').is_displayed())
    assert not [e for e in d.get_log('browser') if e['level']=='SEVERE']

def test_nothing_but_a_site_is_replaced(tmp_path):
    pytest.importorskip('sphinx', reason='no site without Sphinx: install the extra [dev]')
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'photo.jpg').write_bytes(b'precious')
    for args,told in (([tmp_path/'mine'], 'no site'), ([tmp_path/'new', '--run', tmp_path/'nowhere'], '`--run`')):
        res = subprocess.run([sys.executable, str(root/'.ci'/'docs'), *map(str, args)], cwd=root, capture_output=True, text=True)
        assert res.returncode and told in res.stderr
    assert [o.name for o in tmp_path.rglob('*')]==['mine','photo.jpg']
