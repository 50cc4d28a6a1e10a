"""The pages in reading order, from the folders: lessons, experiments, then the wings of settings.ini from the ground to the roof;
and the tables of the front page, which are made and not typed"""
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

def all_pages():
    "All pages of the wings as a table in Markdown, with links from `nbs`"
    rows = [f'| `{o}` | {holds(o)} | {", ".join(f"[{title(nbs/p)}]({p})" for p in sections()[o])} |' for o in wings]
    return '\n'.join(['| wing | what it holds | pages |', '| --- | --- | --- |', *rows])

def keep_results(run):
    "Keep what `train` and `evaluate` found in the folder `run` as nbs/results.json, for `results`"
    metrics,evaluation = (json.loads((Path(run)/f'{o}.json').read_text(encoding='utf-8')) for o in ('metrics','evaluation'))
    kept = {k: metrics[k] for k in ('scores','device','threads','torch','recipe')}
    text = json.dumps(dict(kept, table=evaluation['table']), indent=1, ensure_ascii=False)
    (nbs/'results.json').write_text(text+'\n', encoding='utf-8')

def results():
    "The scores of the first command as a table in Markdown"
    found = json.loads((nbs/'results.json').read_text(encoding='utf-8'))
    directions = list(dict.fromkeys(o['direction'] for o in found['scores']))
    judges = list(dict.fromkeys(o['judge'] for o in found['table']))
    psnr = {(o['direction'], o['method']): f'{o["psnr"]:.2f}' for o in found['scores']}
    def score(o): return f'{o["kid"]:.0f} ± {o["kid_se"]:.0f}; {o["taken"]:.0f} %'
    scores = {(o['direction'], o['set'], o['judge']): score(o) for o in found['table']}
    rows = {'untranslated': ('untranslated','untranslated'), 'best global change of colours': ('colour transfer','colours'),
            '**CycleGAN**': ('CycleGAN','translated'), 'real, held out': (None,'real')}
    def cells(method, images):
        for d in directions: yield psnr.get((d, method), '')
        for d in directions: yield scores[d,images,judges[0]]
    lines = [f'| {k} | {" | ".join(cells(*v))} |' for k,v in rows.items()]
    r = found['recipe']
    threads = 'one thread' if found['threads']==1 else f'{found["threads"]} threads'
    about = (f'`cyclegan-fastai train` and `evaluate`, seed {r["seed"]}, {found["table"][0]["n"]} drawn test landscapes each way, {r["size"]}×{r["size"]}, '
             f'{r["epochs"]+r["decay_epochs"]} epochs with batches of {r["bs"]}; {threads} of a CPU, torch {found["torch"]}. PSNR against the true landscape, '
             f'higher is better. KID × 1000 to real training images, lower is better, and the share taken for the target, by {judges[0]}.')
    head = ' | '.join([f'PSNR (dB), {d}' for d in directions] + [f'KID; taken, {d}' for d in directions])
    return '\n'.join([f'| | {head} |', '| --- |' + ' --- |'*2*len(directions), *lines, '', about])

def fill(md):
    "`md` with the tables in place of their marks"
    for mark,made in (('all pages', all_pages), ('results', results)):
        if f'<!-- {mark} -->' in md: md = md.replace(f'<!-- {mark} -->', made())
    return md
