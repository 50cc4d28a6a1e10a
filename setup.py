"Hands `settings.ini` to setuptools: every field that pyproject.toml calls dynamic"
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

def absolute(md):
    "`md` with links that work away from the repository, as on a package index"
    def f(m):
        kind = 'raw' if m[2].endswith(('.jpg', '.png', '.webp', '.gif', '.svg')) else 'blob'
        return f'{m[1]}{cfg["git_url"]}/{kind}/{cfg["branch"]}/{m[2]}'
    return re.sub(r'(\]\(|(?:src|href)=")(?!https?:|mailto:|#)([^)"\s]+)', f, md)

setup(
    version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(), author=cfg['author'],
    license_expression=cfg['license'],
    long_description=absolute((here/'README.md').read_text(encoding='utf-8')),
    long_description_content_type='text/markdown',
    classifiers=[f'Development Status :: {cfg["status"]}', 'Intended Audience :: Developers',
                 'Intended Audience :: Education', 'Intended Audience :: Science/Research',
                 *(f'Programming Language :: Python :: {o}' for o in ('3', '3.10', '3.11', '3.12', '3.13')),
                 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    # `include_package_data` would take the folders of templates for packages, and warn
    packages=[cfg['lib_path'], *(f'{cfg["lib_path"]}.{o}' for o in cfg['wings'].split())], include_package_data=False,
    package_data={cfg['lib_path']: ['py.typed', 'templates/**', 'pretrained/**']},
    install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k,v in cfg.items() if k.endswith('_requirements')},
    # The `nbdev` entry point lets other projects' notebooks link to the names of this one
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d']},
)
