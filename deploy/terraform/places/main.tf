# An account in which canaries are planted in AWS places, with that account's provider.

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
  description = "How the stack is called. Choose a name that tells nothing."
  type        = string
}

variable "operators" {
  description = "ARNs of the people's roles or users that plant canaries and take them back."
  type        = list(string)
}

variable "watchers" {
  description = "ARNs of the roles or users that firedamp itself runs as."
  type        = list(string)
}

variable "bucket" {
  description = "A bucket in which canaries are planted as objects."
  type        = string
  default     = ""
}

variable "objects" {
  description = "How the names of these objects begin. Empty for the whole bucket."
  type        = string
  default     = ""
}

variable "secrets" {
  description = "How the names of secrets begin that are canaries."
  type        = string
  default     = ""
}

variable "parameters" {
  description = "How the names of parameters begin that are canaries, without the first slash."
  type        = string
  default     = ""
}

variable "function" {
  description = "The function among whose variables a canary is planted."
  type        = string
  default     = ""
}

variable "instance" {
  description = "The instance whose user data holds a canary."
  type        = string
  default     = ""
}

resource "aws_cloudformation_stack" "places" {
  name          = var.name
  template_body = file("${path.module}/../../cloudformation/places.yaml")
  capabilities  = ["CAPABILITY_IAM"]
  parameters = {
    Operators  = join(",", var.operators)
    Watchers   = join(",", var.watchers)
    Bucket     = var.bucket
    Objects    = var.objects
    Secrets    = var.secrets
    Parameters = var.parameters
    Function   = var.function
    Instance   = var.instance
  }
}

output "places" {
  description = "Roles, by the names of the template's outputs."
  value       = aws_cloudformation_stack.places.outputs
}
