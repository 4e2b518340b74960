/** The interface of `lowrank/ai`: a loaded model as a language model of the AI SDK. */
export { type LanguageModelOptions, languageModel } from './language-model.js'
