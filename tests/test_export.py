"Exports: they compute what the model computes, and appear whole or not at all"
import json, os
from pathlib import Path

import numpy as np, pytest, torch
from cyclegan_fastai.use.model_card import model_card
from cyclegan_fastai.use.engines import OnnxEngine, TorchEngine
from cyclegan_fastai.use.export import (check_parity, direction_files, export_onnx, export_safetensors, export_torchscript, load_model,
                                    new_folder, psnr_between)
from cyclegan_fastai.use.translator import Translator
from cyclegan_fastai.use.tiles import translate_pixels
from cyclegan_fastai.nets.models import init_gan, resnet_generator

pytest.importorskip('onnxscript', reason='no ONNX exporter: install the extra [onnx]')

def noise(n=1, h=64, w=64, seed=0): return np.random.default_rng(seed).integers(0, 256, (n,h,w,3), dtype=np.uint8)

@pytest.mark.parametrize('norm,up,n_blocks', [('instance','transposed',6), ('instance','resize',2), ('batch','transposed',1), ('instance','transposed',0)])
def test_onnx_is_the_model_at_any_shape(tmp_path, norm, up, n_blocks):
    net = init_gan(resnet_generator(n_blocks, 8, norm=norm, up=up), std=.1)
    t = Translator({'B': TorchEngine(net, 'cpu')}, ('A','B'), 64)
    export_onnx(t, tmp_path/'out')
    assert {o.name for o in (tmp_path/'out').iterdir()}=={'a_to_b.onnx', 'README.md'}
    engine = OnnxEngine((tmp_path/'out'/'a_to_b.onnx').read_bytes(), 0)
    assert check_parity(engine, t.engine(), ((1,128,128), (1,256,256), (1,320,320), (3,16,16), (1,36,200))) < 1e-4

def test_a_wrong_export_is_refused(translator, tmp_path, monkeypatch):
    other = TorchEngine(init_gan(resnet_generator(2, 8), std=.1), 'cpu')
    with pytest.raises(ArithmeticError, match='differs from the original by'): check_parity(other, translator.engine())
    with pytest.raises(ArithmeticError, match='inf'): check_parity(lambda x: x[:,:1], translator.engine())
    import cyclegan_fastai.use.export as module
    real = module._onnx
    monkeypatch.setattr(module, '_onnx', lambda net: real(other.net))
    with pytest.raises(ArithmeticError, match='nothing was written'): export_onnx(translator, tmp_path/'out')
    assert not os.listdir(tmp_path)

def test_fewer_bits(translator, onnx_folder, tmp_path):
    size = lambda o: sum(f.stat().st_size for f in o.glob('*.onnx'))
    x,whole,loss = noise(2),Translator.load(onnx_folder),{}
    for dtype,share in (('float16',.7), ('int8',.5)):                             # of a model so small that its graph counts
        out = export_onnx(translator, tmp_path/dtype, dtype, images=x)
        assert size(out) < share*size(onnx_folder)
        loss[dtype] = psnr_between(translator, Translator.load(out), x)
        assert set(loss[dtype])=={'summer → winter', 'winter → summer'}
        card = (out/'README.md').read_text()
        measured = psnr_between(translator, Translator.load(out), x[::2])
        assert f'as {dtype}, ' in card and f'{measured["summer → winter"]:.1f} dB' in card
    whole = psnr_between(translator, whole, x)
    for k in whole: assert whole[k] > loss['float16'][k] > 45 and loss['float16'][k] > loss['int8'][k] > 30

def test_int8_is_computed_in_eight_bits_and_in_tiles(translator, tmp_path):
    import onnx
    u = Translator.load(export_onnx(translator, tmp_path/'int8', 'int8', images=noise(3, 50, 70)))            # of any sides
    graph = onnx.load(tmp_path/'int8'/'summer_to_winter.onnx').graph
    maker = {o: n.op_type for n in graph.node for o in n.output}
    convs = [n for n in graph.node if n.op_type=='Conv']
    assert convs and all(maker[o]=='DequantizeLinear' for n in convs for o in n.input[:2])
    x = noise(1, 151, 90)
    for kw in ({}, dict(whole=4096, tile=64)):
        a,b = (translate_pixels(o.engine('winter'), x, **kw).astype(float) for o in (translator, u))
        assert b.shape==x.shape and 10*np.log10(255**2/((a-b)**2).mean()) > 30

def test_psnr_is_what_it_says():
    grey = lambda v: Translator({'B': lambda x: np.full_like(x, v)}, ('A','B'), 64)
    x = noise()
    assert psnr_between(grey(0.), grey(2/127.5), x)['A → B']==pytest.approx(10*np.log10(255**2/4), abs=.01)
    assert psnr_between(grey(0.), grey(0.), x)['A → B'] > 70

def test_torchscript(translator, tmp_path):
    out = export_torchscript(translator, tmp_path/'ts')
    net,x = torch.jit.load(out/'winter_to_summer.pt'),torch.rand(2,3,32,48)*2-1
    with torch.no_grad(): assert (net(x)-translator.engine('summer').net(x)).abs().max() < 1e-5
    extra = {'cyclegan_fastai.json': ''}
    torch.jit.load(out/'summer_to_winter.pt', _extra_files=extra)
    assert json.loads(extra['cyclegan_fastai.json'])['to']=='winter'

def test_safetensors(translator, tmp_path):
    out,x = export_safetensors(translator, tmp_path/'st', 'float16'),noise()[0]
    assert np.abs(Translator.load(out, device='cpu')(x).astype(int)-translator(x)).max() <= 3

@pytest.mark.parametrize('domains,names', [(('summer','winter'), ['summer_to_winter.x','winter_to_summer.x']), (('A','B'), ['a_to_b.x','b_to_a.x']),
    (('Photo (2020)','Monet/late'), ['photo-2020_to_monet-late.x','monet-late_to_photo-2020.x']), (('a b','a-b'), ['a_to_b.x','b_to_a.x']),
    (('../..','☃'), ['a_to_b.x','b_to_a.x']), (('лето','зима'), ['лето_to_зима.x','зима_to_лето.x'])])
def test_names_of_files(translator, domains, names):
    t = Translator(dict(zip(domains, translator.engines.values())), domains)
    assert direction_files(t, '.x')=={domains[1]: names[0], domains[0]: names[1]}

@pytest.mark.parametrize('f,kwargs,error,message', [
    (export_onnx, dict(dtype='float8'), ValueError, "`dtype` must be 'float32', 'float16' or 'int8'"),
    (export_torchscript, dict(dtype='int8'), ValueError, '`dtype` of TorchScript'), (export_safetensors, dict(dtype='int8'), ValueError, '`dtype` must be')])
def test_refused_before_anything_is_written(translator, tmp_path, f, kwargs, error, message):
    with pytest.raises(error, match=message): f(translator, tmp_path/'x', **kwargs)
    assert not os.listdir(tmp_path)

def test_a_folder_with_something_in_it_stays_as_it_is(translator, tmp_path):
    (tmp_path/'mine').mkdir(); (tmp_path/'mine'/'thesis.txt').write_text('years')
    for out in (tmp_path/'mine', tmp_path/'mine'/'thesis.txt'):
        with pytest.raises(FileExistsError, match='is there already'): export_safetensors(translator, out)
    assert (tmp_path/'mine'/'thesis.txt').read_text()=='years' and os.listdir(tmp_path)==['mine']
    (tmp_path/'empty').mkdir()
    assert (export_safetensors(translator, tmp_path/'empty')/'model.safetensors').exists()

def test_onnx_is_made_of_pytorch(onnx_folder, tmp_path):
    with pytest.raises(ValueError, match='load its `model.safetensors`'): export_onnx(Translator.load(onnx_folder), tmp_path/'x')

def test_a_card_says_what_is_known_and_nothing_else(model_file, translator, tmp_path):
    plain = model_card(Translator(translator.engines, translator.domains))
    assert 'Training' not in plain and 'Evaluation' not in plain and 'None' not in plain
    table = [dict(direction='summer → winter', judge='MobileNetV2', set=s, images=k, n=40, kid=v, kid_se=10., taken=70., taken_se=7., frechet=55.5, kid_way=None)
             for s,k,v in (('real','real winter',-.6), ('untranslated','summer, untranslated',20.), ('translated','summer → winter',30.))]
    (tmp_path/'model.safetensors').write_bytes(model_file.read_bytes())
    (tmp_path/'evaluation.json').write_text(json.dumps(dict(features=['MobileNetV2, 224 px'], table=table, verdict=['summer → winter: not nearer to real winter than untranslated images'])))
    t = load_model(tmp_path, device='cpu')
    t.about['scores'] = [dict(direction='summer → winter', method='CycleGAN', psnr=15.57, ssim=.31)]
    card = model_card(t)
    for o in ('real winter | 40 | -0.6 ± 10.0 | 70 ± 7', 'translated | 40 | 30.0 ± 10.0', 'summer → winter: not nearer to real winter than untranslated images.', '| data | seasons |', '| summer → winter | CycleGAN | 15.57 | 0.31 |', 'pipeline_tag: image-to-image'): assert o in card
