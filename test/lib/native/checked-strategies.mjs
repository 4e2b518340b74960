// Steps of every kind of strategy in a process of its own, with LOWRANK_CHECK set before the engine reads it.
// CHECKED_STRATEGIES names a few of them. Prints the kernels of their plans as JSON: those that are launched, and all that there are.

import * as lib from '../../../dist/esm/index.js'
import { openPlanner } from '../../../dist/esm/planning/plan.js'

/** The first with all strategies, the others with one that trains every weight. */
const [first, ...others] = process.argv.slice(2)
const base = { r: 2, loraAlpha: 4, targetModules: ['q_proj', 'down_proj'] }
const lycoris = { r: 2, alpha: 4, targetModules: ['q_proj', 'down_proj'] }
const strategies = {
  lora: lib.lora({ ...base, loraDropout: 0.3 }),
  saved: lib.lora({ ...base, modulesToSave: ['lm_head', 'model.norm'] }),
  embedding: lib.lora({ ...base, targetModules: ['q_proj', 'embed_tokens'] }),
  dora: lib.dora({ ...base, loraDropout: 0.3 }),
  'dora, undropped': lib.dora(base),
  'delta-lora': lib.deltaLora({ ...base, startStep: 1 }),
  dylora: lib.dylora(base),
  adalora: lib.adalora({
    initR: 3,
    targetR: 2,
    tinit: 0,
    tfinal: 0,
    deltaT: 1,
    targetModules: base.targetModules,
  }),
  vera: lib.vera({ r: 4, targetModules: ['q_proj', 'v_proj'] }),
  loha: lib.loha({ ...lycoris, rankDropout: 0.2 }),
  'loha, formed': lib.loha({ ...lycoris, r: 16 }),
  lokr: lib.lokr({ ...lycoris, decomposeBoth: true, rankDropout: 0.2 }),
  oft: lib.oft({ oftBlockSize: 8, targetModules: ['q_proj', 'down_proj'] }),
  hira: lib.hira({ r: 3, hiraDropout: 0.3, targetModules: ['q_proj', 'down_proj'] }),
  'lora-fa': lib.loraFa(base),
  'lora, sgd': lib.lora(base),
  'lora, lion': lib.lora(base),
  'lora, adafactor': lib.lora(base),
  'lora, adamw_8bit': lib.lora({ ...base, r: 64 }),
  'lora, in backward': lib.lora(base),
  'lora-drop': lib.loraDrop({ ...base, sampleFraction: 0.5, probeSteps: 1 }),
  full: lib.full(),
}
/** Additional options of a training run. */
const more = {
  lora: { tokenAccuracy: true },
  'lora, sgd': { optimizer: { type: 'sgd', momentum: 0.9 } },
  'lora, lion': { optimizer: 'lion' },
  'lora, adafactor': { optimizer: 'adafactor' },
  'lora, adamw_8bit': { optimizer: 'adamw_8bit' },
  'lora, in backward': { optimizerInBackward: true },
}
const shape = { perDeviceTrainBatchSize: 2, maxSeqLength: 24 }
const rows = Array.from({ length: 8 }, (_, i) => ({ prompt: `Color of ${i}?`, completion: ' It is red.' }))
const pairs = rows.map(({ prompt, completion }) => ({ prompt, chosen: completion, rejected: ' It is.' }))
const launched = new Set()
const all = new Set()
const asked = process.env.CHECKED_STRATEGIES?.split(',') ?? Object.keys(strategies)
for (const name of asked) await check(first, name)
for (const model of others) await check(model, 'full')
console.log(JSON.stringify({ launched: [...launched], all: [...all] }))

async function check(model, name) {
  for (const precision of ['fp32', 'bf16']) {
    const base = await lib.loadModel(model, { precision })
    const shaped = { ...shape, ...more[name] }
    const clipped = shaped.optimizerInBackward ? { maxGradNorm: 0 } : {}
    const training = {
      ...shaped,
      ...clipped,
      maxSteps: 2,
      learningRate: 0.01,
      chatTemplate: false,
      evalFraction: 0,
      neftuneNoiseAlpha: name === 'dora' ? 5 : null,
    }
    const probed = name === 'lora-drop'
    const strategy = probed ? await base.probe(strategies[name], rows, training) : strategies[name]
    const { count } = await openPlanner(model, { strategy, precision, ...shaped })
    const { kernels, update } = count()
    for (const { kernel, launches } of [...kernels, ...(update?.kernels ?? [])]) {
      all.add(kernel)
      if (launches > 0) launched.add(kernel)
    }
    const adapter = await base.attach(strategy, { seed: 1 })
    for await (const _ of adapter.train(rows, training));
    // A loss whose gradients are made apart from its losses.
    if (name === 'lora-fa')
      for await (const _ of adapter.train(pairs, { ...training, task: 'dpo', maxSteps: 1 }));
    // Without dropout, with which the outputs of terms are not compared.
    if (process.env.LOWRANK_CHECK === 'terms') await base.evaluate(rows, { ...shape, chatTemplate: false })
    if (name === 'dora') {
      // Beside another adapter.
      const other = await base.attach(strategies.lokr, { seed: 2 })
      base.use({ adapter, weight: 0.75 }, { adapter: other, weight: 0.5 })
    }
    // With a key/value cache.
    if (name === 'dora' || name === 'oft' || name === 'hira')
      await base.generate('Color', { maxNewTokens: 2, temperature: 0, chatTemplate: false })
    await base.dispose()
  }
}
