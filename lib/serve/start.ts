/** Fine-tuned models that jobs start from: their strategies, and the copies that jobs have of them. */
import { link, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openAdapter } from '../model/attach.js'
import type { Model } from '../model/model.js'
import { ADAPTER_FILES } from '../peft/adapter-folder.js'
import { strategyToFile } from '../strategies/index.js'
import type { StrategyOptions } from '../strategies/strategy.js'
import type { RunConfig } from '../train/config/config.js'
import { asApiError } from './errors.js'
import type { TunedModel } from './models.js'

/** @returns the strategy of a fine-tuned model, with the keys of config files */
export async function startOf(model: Model, { name, path }: TunedModel): Promise<StrategyOptions> {
  const { description } = await openAdapter(path, model.base).catch((error: unknown) => {
    throw asApiError(error, 'model', (text) => text.replaceAll(path, name))
  })
  return strategyToFile(description.strategy)
}

/** @throws {ApiError} when the strategy of a job is not of the form of the model that it starts from */
export async function checkStart(
  model: Model,
  { name, path }: TunedModel,
  { strategy }: RunConfig,
): Promise<void> {
  await model.checkStart(strategy, path).catch((error: unknown) => {
    throw asApiError(error, 'lowrank.strategy', (text) => text.replaceAll(path, name))
  })
}

/** Gives the files of a fine-tuned model second names, so that it may be deleted meanwhile. */
export async function keepStart({ path }: TunedModel, folder: string): Promise<void> {
  await mkdir(folder)
  for (const name of ADAPTER_FILES) await link(join(path, name), join(folder, name))
}
