module finetune-operator.test/ground/pause

go 1.26.0
