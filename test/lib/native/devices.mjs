// Every strategy trained on the CPU and on the first GPU, in a process of its own, so that the driver can be chosen before the
// engine opens it. Arguments: a model, a number of steps, a precision, and strategies, by default all. Prints a line of JSON for
// each: its losses, and how far apart what each of the first two steps changed is, by parameter.
import * as lib from '../../../dist/esm/index.js'
import { compareDevices, stepsOf } from './both-devices.mjs'

const [model, steps, precision, ...asked] = process.argv.slice(2)
const base = { r: 2, loraAlpha: 4, targetModules: ['q_proj', 'down_proj'] }
const lycoris = { r: 2, alpha: 4, targetModules: base.targetModules }
const strategies = {
  lora: lib.lora({ ...base, loraDropout: 0.3 }),
  'lora-fa': lib.loraFa(base),
  'lora-plus': lib.loraPlus({ adapter: lib.lora(base) }),
  dora: lib.dora(base),
  'delta-lora': lib.deltaLora({ ...base, startStep: 1 }),
  dylora: lib.dylora(base),
  adalora: lib.adalora({
    ...{ initR: 3, targetR: 2, tinit: 0, deltaT: 2, tfinal: Math.floor(steps / 4) },
    targetModules: base.targetModules,
  }),
  'lora-drop': lib.loraDrop({ ...base, sampleFraction: 0.5, probeSteps: 1 }),
  vera: lib.vera({ r: 4, targetModules: ['q_proj', 'v_proj'] }),
  loha: lib.loha(lycoris),
  lokr: lib.lokr({ ...lycoris, decomposeBoth: true }),
  qlora: lib.qlora({ adapter: lib.lora(base) }),
  'dp-dylora': lib.dpDylora({
    adapter: lib.dylora(base),
    ...{ privacyUnit: 'example', cohort: 3, rounds: Number(steps), noiseMultiplier: 0.5 },
    noiseKey: '00'.repeat(32),
  }),
  miss: lib.miss({ r: 4, targetModules: base.targetModules }),
  oft: lib.oft({ oftBlockSize: 8, targetModules: base.targetModules }),
  hira: lib.hira({ r: 4, targetModules: base.targetModules }),
  full: lib.full(),
}
const rows = Array.from({ length: 8 }, (_, i) => ({ prompt: `Color of ${i}?`, completion: ' It is red.' }))
/** Runs of two steps use plain descent, which changes each parameter by a multiple of its gradient. */
const plain = { optimizer: 'sgd', learningRate: 0.1, maxGradNorm: 0, lrSchedulerType: 'constant' }

for (const name of asked.length > 0 ? asked : Object.keys(strategies))
  await compareDevices(name, (device) => trained(name, device))

async function trained(name, device) {
  const quantization = name === 'qlora' ? 'nf4' : 'none'
  const loaded = await lib.loadModel(model, { precision, device, quantization })
  const options = {
    ...{ perDeviceTrainBatchSize: 2, maxSeqLength: 24, chatTemplate: false, evalFraction: 0, seed: 7 },
    ...(name === 'dp-dylora' ? {} : { maxSteps: Number(steps) }),
    ...(steps === '2' ? plain : { learningRate: 0.01 }),
  }
  const strategy =
    name === 'lora-drop' ? await loaded.probe(strategies[name], rows, options) : strategies[name]
  const adapter = await loaded.attach(strategy, { seed: 1 })
  const made = await stepsOf(adapter, adapter.train(rows, options))
  await loaded.dispose()
  return made
}
