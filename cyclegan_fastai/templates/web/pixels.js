// From pixels to numbers and back, with the same results as Translator

const MULTIPLE = 4, LEAST = 16 // what the sides of the network's input must be
const SCALE = Float32Array.from({length: 256}, (_, v) => Math.fround(v / 127.5) - 1)

// Side `n`, padded for the network
const padded = n => Math.max(Math.ceil(n / MULTIPLE) * MULTIPLE, LEAST)

// The index among `n` pixels for place `i`, which may lie beyond them: reflection without repeating the edge
export function reflect(i, n) {
  if (n === 1) return 0
  const round = 2 * (n - 1), k = i % round
  return k < n ? k : round - k
}

// Transparent pixels on white; alpha is kept
export function onWhite(rgba) {
  const out = new Uint8ClampedArray(rgba)
  for (let i = 0; i < out.length; i += 4) {
    const a = rgba[i + 3]
    if (a < 255) for (let c = i; c < i + 3; c++) out[c] = (rgba[c] * a + 255 * (255 - a)) / 255
  }
  return out
}

// Pixels, four bytes each, as the network's input: {numbers, width, height}, sides padded
export function toNetwork(rgba, w, h) {
  const width = padded(w), height = padded(h), plane = width * height
  const numbers = new Float32Array(3 * plane)
  for (let y = 0, o = 0; y < height; y++) {
    const row = reflect(y, h) * w
    for (let x = 0; x < width; x++, o++) {
      const i = 4 * (row + reflect(x, w))
      for (let c = 0; c < 3; c++) numbers[o + c * plane] = SCALE[rgba[i + c]]
    }
  }
  return {numbers, width, height}
}

// The network's output as pixels, without the padding, with the alpha of `rgba`
export function toPixels(numbers, width, height, rgba, w, h) {
  const out = new Uint8ClampedArray(rgba), plane = width * height // it rounds half to even, as NumPy does
  for (let y = 0, o = 0; y < h; y++)
    for (let x = 0; x < w; x++, o += 4)
      for (let c = 0; c < 3; c++) out[o + c] = Math.fround(Math.fround(numbers[c * plane + y * width + x] + 1) * 127.5)
  return out
}
