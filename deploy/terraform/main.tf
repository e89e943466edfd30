# The CloudFormation templates of ../cloudformation as a Terraform module: the same stacks, so that there is one truth.
# The provider is that of the canary account, in us-east-1. For each other region: the module in ./regions.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "name" {
  description = "How the stacks are called. Choose a name that tells nothing."
  type        = string
}

variable "mail" {
  description = "Who is mailed by the last resort."
  type        = string
}

variable "operators" {
  description = "ARNs of the people's roles or users that mint canaries and look at keys."
  type        = list(string)
}

variable "watchers" {
  description = "ARNs of the roles or users that firedamp itself runs as."
  type        = list(string)
}

variable "canary_users" {
  description = "How the canaries' user names begin. Empty in an account that holds canaries and nothing else."
  type        = string
  default     = ""
}

variable "keep_days" {
  description = "Days for which the trail's files are kept."
  type        = number
  default     = 400
}

variable "lock_days" {
  description = "Days for which nobody without s3:BypassGovernanceRetention can delete them."
  type        = number
  default     = 90
}

resource "aws_cloudformation_stack" "last_resort" {
  name          = "${var.name}-mail"
  template_body = file("${path.module}/../cloudformation/last-resort.yaml")
  parameters = {
    Mail        = var.mail
    CanaryUsers = var.canary_users
  }
}

resource "aws_cloudformation_stack" "canary_account" {
  name          = var.name
  template_body = file("${path.module}/../cloudformation/canary-account.yaml")
  capabilities  = ["CAPABILITY_IAM"]
  parameters = {
    Operators   = join(",", var.operators)
    Watchers    = join(",", var.watchers)
    CanaryUsers = var.canary_users
    AlarmTopic  = aws_cloudformation_stack.last_resort.outputs["Topic"]
    KeepDays    = tostring(var.keep_days)
    LockDays    = tostring(var.lock_days)
  }
}

output "canary_account" {
  description = "Feeds and roles, by the names of the template's outputs."
  value       = aws_cloudformation_stack.canary_account.outputs
}
