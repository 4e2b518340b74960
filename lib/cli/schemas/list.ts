/** Output of every command with --json. Written by `node scripts/records.mjs`. */
import { printed as ofBench } from './bench.js'
import { printed as ofCache } from './cache.js'
import { printed as ofChat } from './chat.js'
import { printed as ofClassify } from './classify.js'
import { printed as ofCompare } from './compare.js'
import { printed as ofDemo } from './demo.js'
import { printed as ofDoctor } from './doctor.js'
import { printed as ofEval } from './eval.js'
import { printed as ofExport } from './export.js'
import { printed as ofGenerate } from './generate.js'
import { printed as ofInit } from './init.js'
import { printed as ofInspect } from './inspect.js'
import { printed as ofMcp } from './mcp.js'
import { printed as ofMerge } from './merge.js'
import { printed as ofMigrate } from './migrate.js'
import { printed as ofPlan } from './plan.js'
import { printed as ofServe } from './serve.js'
import { printed as ofStrategies } from './strategies.js'
import { printed as ofTrain } from './train.js'
import { printed as ofWatch } from './watch.js'

/** Lines on stdout of a successful command: its answer, or its events. */
export const printed = {
  bench: ofBench,
  cache: ofCache,
  chat: ofChat,
  classify: ofClassify,
  compare: ofCompare,
  demo: ofDemo,
  doctor: ofDoctor,
  eval: ofEval,
  export: ofExport,
  generate: ofGenerate,
  init: ofInit,
  inspect: ofInspect,
  mcp: ofMcp,
  merge: ofMerge,
  migrate: ofMigrate,
  plan: ofPlan,
  serve: ofServe,
  strategies: ofStrategies,
  train: ofTrain,
  watch: ofWatch,
}
