// One training step of a tiny model, by its name, in a process of its own, so that LOWRANK_CHECK can be set before the engine reads it.
import { join } from 'node:path'
import { graphOf, openModelFiles } from '../../../dist/esm/models/index.js'
import { addon } from '../../../dist/esm/native/addon.js'

const files = await openModelFiles(join(import.meta.dirname, '../../parity/models', process.argv[2]))
const graph = graphOf(files.config)
const native = addon()
const model = native.createModel(graph)
for (const { name, kind } of graph.weights)
  await model.loadWeight(name, files.tensors.get(name), kind === 'matrix' ? 'nf4' : 'f32').promise
const weights = new Map(graph.weights.map((w) => [w.name, w]))
const linears = graph.nodes.filter((node) => node.op === 'linear')
const spec = {
  parameters: linears.flatMap(({ path, weight }) => [
    { name: `${path}.A`, rows: 4, cols: weights.get(weight).cols, trained: true },
    { name: `${path}.B`, rows: weights.get(weight).rows, cols: 4, trained: true },
  ]),
  terms: linears.map(({ path }) => ({
    kind: 'low_rank',
    target: path,
    parameters: { a: `${path}.A`, b: `${path}.B` },
    numbers: { rank: 4, scale: 1, dropout: 0.1 },
  })),
}
const adapter = native.createAdapter(spec, { trainable: true })
for (const { name } of spec.parameters) adapter.fill(name, { kind: 'normal', std: 0.1, seed: 1 })
const tokens = Int32Array.from({ length: 100 }, (_, i) => (i * 37) % 200)
const labels = tokens.map((id, i) => (i % 3 ? id : -100))
const groups = [{ learningRate: 1e-3, weightDecay: 0 }]
const update = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-8, groups, maxGradNorm: 0, step: 1 }
for (const [precision, inBackward] of [
  ['f32', false],
  ['bf16', false],
  ['f32', true],
]) {
  adapter.restart({ kind: 'adamw', inBackward })
  const plan = { mode: 'train', tokens: 128, sequences: 2, headRows: 128, precision, recompute: true }
  const session = await native.createSession(model, [adapter], { train: plan }).promise
  const input = {
    tokens,
    labels,
    cuSeqlens: Int32Array.of(0, 60, 100),
    lossScale: 0.1,
    seed: 0,
    step: 1,
    microStep: 0,
    ...(inBackward ? { update } : {}),
  }
  const { lossSum, count } = await session.trainStep('train', input).promise
  console.log('loss', lossSum / count)
  await session.dispose()
}
