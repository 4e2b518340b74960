/** Configs as files; apart from what reads them, as only the command line writes any. */
import { stringify } from 'yaml'
import { toFileKeys } from '../core/schema.js'
import { configSchema, type RunConfig } from './config.js'

/** The config, or some of its keys, as a YAML file that reads back as the same. */
export function configText(config: Partial<RunConfig>): string {
  return stringify(toFileKeys(configSchema, config))
}
