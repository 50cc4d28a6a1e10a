// Runs the network in a thread of its own, so that the page stays responsive
import {toNetwork, toPixels} from './pixels.js'

const sessions = {}
let runtime

const tell = (step, done, total) => postMessage({step, done, total})

// The bytes of a file of this folder; `step` is the message shown meanwhile, `size` the expected number of bytes
async function bytes(file, step, size) {
  const gone = () => { throw Error(`“${file}” can't be reached: is the server still there?`) }
  const response = await fetch(file, {cache: 'no-cache'}).catch(gone)
  if (!response.ok) throw Error(`“${file}” is missing (${response.status}): the folder is incomplete, export it once more.`)
  const parts = [], reader = response.body.getReader()
  for (let n = 0, part; part = (await reader.read().catch(gone)).value; parts.push(part)) tell(step, n += part.length, size)
  return new Uint8Array(await new Blob(parts).arrayBuffer())
}

// Some servers unpack .gz files, others don't
async function unpacked(x) {
  if (x[0] !== 0x1f || x[1] !== 0x8b) return x
  return new Uint8Array(await new Response(new Blob([x]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer())
}

async function startRuntime({js, wasm, bytes: size}) {
  if (typeof WebAssembly === 'undefined' || typeof DecompressionStream === 'undefined')
    throw Error('This browser is too old for the model, or WebAssembly is switched off in it: try another one.')
  const binary = await bytes(wasm, 'Loading the runtime', size)
  let ort
  try { ort = await import(`./${js}`) } catch { throw Error(`“${js}” is missing or damaged: the folder is incomplete, export it once more.`) }
  ort.env.logLevel = 'error'
  ort.env.wasm.numThreads = 1 // more threads would need special headers from the server
  ort.env.wasm.wasmBinary = await unpacked(binary)
  return ort
}

async function session({file, bytes: size}) {
  const model = await bytes(file, 'Loading the model', size)
  tell('Preparing the model')
  try { return await runtime.InferenceSession.create(model, {executionProviders: ['wasm'], graphOptimizationLevel: 'all'}) }
  catch (e) { throw Error(`The model can't be started in this browser (${e.message ?? e}).`) }
}

async function translate({to, models, pixels, w, h, runtime: files}) {
  runtime ??= await startRuntime(files)
  const s = sessions[to] ??= await session(models[to])
  tell('Translating')
  const {numbers, width, height} = toNetwork(pixels, w, h), began = performance.now()
  let out
  try { out = await s.run({[s.inputNames[0]]: new runtime.Tensor('float32', numbers, [1, 3, height, width])}) }
  catch (e) { throw Error(`The translation failed (${e.message ?? e}): choose a smaller size.`) }
  const y = out[s.outputNames[0]]
  return {pixels: toPixels(y.data, width, height, pixels, w, h), seconds: (performance.now() - began) / 1000}
}

onmessage = async ({data}) => {
  try { const result = await translate(data); postMessage(result, [result.pixels.buffer]) }
  catch (e) { postMessage({error: e.message ?? String(e)}) }
}
