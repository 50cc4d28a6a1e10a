"The pages in reading order, from the folders: lessons, experiments, then the wings of settings.ini from the ground to the roof"
import ast, json, re
from pathlib import Path
from fastcore.xtras import Config

root = Path(__file__).resolve().parents[1]
nbs = root/'nbs'
settings = Config(root, 'settings.ini')
wings = settings['wings'].split()

def notebooks():
    "All notebooks, sorted"
    return sorted(o for o in nbs.rglob('*.ipynb') if not any(p[0] in '_.' for p in o.relative_to(nbs).parts))

def sections():
    "Section → its notebooks, relative to `nbs`, in reading order"
    titles = dict(lessons='Lessons', experiments='Experiments', **{o: o for o in wings})
    found = {'Start': ['index.ipynb'], **{v: sorted(o.relative_to(nbs).as_posix() for o in (nbs/k).glob('*.ipynb')) for k,v in titles.items()}}
    left = {o.relative_to(nbs).as_posix() for o in notebooks()} - {o for v in found.values() for o in v}
    if left: raise SystemExit(f'nbs/ holds notebooks in no section: {sorted(left)}. Put each into lessons/, experiments/ or a wing')
    return found

def title(fn):
    "The title of the notebook `fn`"
    return re.match(r'# (.+)', ''.join(json.loads(fn.read_text(encoding='utf-8'))['cells'][0]['source']))[1]

def holds(wing):
    "What a wing holds: the first line of its package"
    return ast.get_docstring(ast.parse((root/settings['lib_path']/wing/'__init__.py').read_text(encoding='utf-8')))

def table():
    "All pages of the wings as a table in Markdown, with links from `nbs`"
    rows = [f'| `{o}` | {holds(o)} | {", ".join(f"[{title(nbs/p)}]({p})" for p in sections()[o])} |' for o in wings]
    return '\n'.join(['| wing | what it holds | pages |', '| --- | --- | --- |', *rows])
